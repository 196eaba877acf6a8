//! Reads the struct and its attributes, and refuses what cannot be an object.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, Generics, Ident, Lifetime, Meta, Path, Result, Token, Type,
    Visibility, parse_quote,
};

/// What the derive needs to know of a struct.
pub(crate) struct Input {
    pub(crate) vis: Visibility,
    pub(crate) name: Ident,
    pub(crate) generics: Generics,
    pub(crate) fields: Fields,
    pub(crate) tail: Option<Type>,
    pub(crate) identity_hash: bool,
    pub(crate) grows: bool,
    /// Path of `gc_heap`.
    pub(crate) krate: Path,
    /// Of what an object is made from: `'g`, unless a type of the struct has a `'g` of its own.
    pub(crate) lifetime: Lifetime,
}

impl Input {
    pub(crate) fn read(input: DeriveInput) -> Result<Self> {
        let fields = match input.data {
            Data::Struct(data) => data.fields,
            Data::Enum(data) => {
                return Err(Error::new(
                    data.enum_token.span,
                    "an enum cannot be a heap object: a word that is a slot in one variant and a number in another cannot be \
                     mapped; use a struct, with `Slot<Tagged>` for what varies",
                ));
            }
            Data::Union(data) => {
                return Err(Error::new(
                    data.union_token.span,
                    "a union cannot be a heap object: its slots cannot be told from its numbers; use a struct",
                ));
            }
        };
        if let Some(lifetime) = input.generics.lifetimes().next() {
            return Err(Error::new(
                lifetime.span(),
                "a heap object has no lifetime: it outlives every borrow; keep references in a `Slot`, other data in a `Plain`",
            ));
        }
        refuse_packed(&input.attrs)?;
        for field in &fields {
            refuse_attribute(field)?;
        }
        let Options { tail, identity_hash, grows, krate } = Options::read(&input.attrs)?;
        let krate = krate.unwrap_or_else(|| parse_quote!(::gc_heap));
        let lifetime = free_lifetime(&input.generics, &fields);
        Ok(Self {
            vis: input.vis,
            name: input.ident,
            generics: bounded(input.generics, &fields, &krate),
            fields,
            tail,
            identity_hash,
            grows,
            krate,
            lifetime,
        })
    }
}

/// A lifetime that no type of the struct names. What a macro in a type names is not to be seen, so
/// there it is one that nobody writes.
fn free_lifetime(generics: &Generics, fields: &Fields) -> Lifetime {
    let (mut names, mut macros) = (Vec::new(), false);
    let types = fields.iter().map(|field| field.ty.to_token_stream());
    let parts = [generics.to_token_stream(), generics.where_clause.to_token_stream()];
    let mut streams: Vec<TokenStream> = parts.into_iter().chain(types).collect();
    while let Some(stream) = streams.pop() {
        let mut quote = false;
        for token in stream {
            let punct = match &token {
                TokenTree::Punct(punct) => punct.as_char(),
                _ => ' ',
            };
            match token {
                TokenTree::Group(group) => streams.push(group.stream()),
                TokenTree::Ident(name) if quote => names.push(name.to_string()),
                _ => macros |= punct == '!',
            }
            quote = punct == '\'';
        }
    }
    let name = if macros || names.iter().any(|name| name == "g") { "'__gc_heap" } else { "'g" };
    Lifetime::new(name, Span::call_site())
}

/// The struct's generics, and `T: Field` for each parameter `T` that is the whole type of a field,
/// as the derives of the standard library do. No bound for `Slot<T>`: a type that refers to itself
/// would have to be a field before it is one.
fn bounded(mut generics: Generics, fields: &Fields, krate: &Path) -> Generics {
    let params: Vec<Ident> = generics.type_params().map(|param| param.ident.clone()).collect();
    for field in fields {
        let Type::Path(path) = bare(&field.ty) else {
            continue;
        };
        if path.path.get_ident().is_some_and(|name| params.contains(name)) {
            let ty = &field.ty;
            generics.make_where_clause().predicates.push(parse_quote!(#ty: #krate::__private::Field));
        }
    }
    generics
}

#[derive(Default)]
struct Options {
    tail: Option<Type>,
    identity_hash: bool,
    /// For `gc_heap`'s own array that grows.
    grows: bool,
    krate: Option<Path>,
}

impl Options {
    fn read(attrs: &[Attribute]) -> Result<Self> {
        let mut options = Self::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("trace")) {
            attr.parse_nested_meta(|meta| {
                let twice = || meta.error("given twice");
                if meta.path.is_ident("tail") {
                    if options.tail.replace(meta.value()?.parse()?).is_some() {
                        return Err(twice());
                    }
                } else if meta.path.is_ident("identity_hash") {
                    if std::mem::replace(&mut options.identity_hash, true) {
                        return Err(twice());
                    }
                } else if meta.path.is_ident("grows") {
                    if std::mem::replace(&mut options.grows, true) {
                        return Err(twice());
                    }
                } else if meta.path.is_ident("crate") {
                    if options.krate.replace(meta.value()?.call(Path::parse_mod_style)?).is_some() {
                        return Err(twice());
                    }
                } else {
                    return Err(meta.error("expected `tail = Element`, `identity_hash` or `crate = path`"));
                }
                Ok(())
            })?;
        }
        // The heap's own arrays alone grow: it is no option of an embedder's types.
        if options.grows && !options.krate.as_ref().is_some_and(|path| path.is_ident("crate")) {
            return Err(Error::new(Span::call_site(), "`grows` is for types of the heap's own"));
        }
        Ok(options)
    }
}

fn refuse_packed(attrs: &[Attribute]) -> Result<()> {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("repr")) {
        for meta in attr.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)? {
            if meta.path().is_ident("packed") {
                return Err(Error::new(
                    meta.span(),
                    "a heap object cannot be packed: its slots are read as whole, aligned words",
                ));
            }
        }
    }
    Ok(())
}

fn refuse_attribute(field: &Field) -> Result<()> {
    match field.attrs.iter().find(|attr| attr.path().is_ident("trace")) {
        Some(attr) => {
            Err(Error::new(attr.span(), "a field has no `trace` attribute: every field is traced, none can be skipped"))
        }
        None => Ok(()),
    }
}

/// Whether a field's type is called `PhantomData`. A struct of such fields alone is made from `()`;
/// the code that is written for it compiles if they are what they are called.
pub(crate) fn is_phantom(ty: &Type) -> bool {
    matches!(bare(ty), Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident.unraw() == "PhantomData"))
}

/// A type without the parentheses, or what macros put in their place.
fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        _ => ty,
    }
}
