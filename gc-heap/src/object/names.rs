//! Names of fields, which the derive emits at compile time: for censuses and snapshots.

/// A field of a struct that derives `Trace`: its name and where it is.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "census"), expect(dead_code, reason = "only snapshots ask where a field is"))]
pub struct FieldName {
    pub(super) name: &'static str,
    /// Byte within the struct.
    pub(super) offset: usize,
    pub(super) bytes: usize,
    /// Bytes of an element, where the field is an array; else all.
    pub(super) element: usize,
    /// The fields of the field, or of its elements.
    pub(super) fields: &'static [FieldName],
}

impl FieldName {
    /// The name of a field of type `F`.
    #[must_use]
    pub(crate) const fn of<F>(
        name: &'static str,
        offset: usize,
        element: usize,
        fields: &'static [FieldName],
    ) -> FieldName {
        FieldName { name, offset, bytes: size_of::<F>(), element, fields }
    }

    /// The name: as in the source, or the number of a field of a tuple struct.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The field's own fields, where it is a struct or an array of structs.
    #[must_use]
    pub const fn fields(&self) -> &'static [FieldName] {
        self.fields
    }
}
