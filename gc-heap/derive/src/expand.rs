//! Writes the init struct and the impls.
//!
//! The safety of what is written here rests on the struct being as it was read, so each way in which another macro could
//! change it afterwards is a compile error: a pattern names every field, offsets and writes go by field name and type, and
//! `WordMap::with_field` checks alignment.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Fields, Ident, Index, Member, Type, Visibility, parse_quote};

use crate::input::{Input, is_phantom};

/// One field that is not `PhantomData`, or one that is.
struct FieldOf<'a> {
    member: Member,
    vis: &'a Visibility,
    docs: Vec<&'a Attribute>,
    ty: &'a Type,
    phantom: bool,
}

impl FieldOf<'_> {
    /// `<Ty as Field>`: spelled the same everywhere, with the type's place, so that a type that is no field is reported once.
    fn as_field(&self, private: &TokenStream) -> TokenStream {
        let ty = self.ty;
        quote_spanned!(ty.span()=> <#ty as #private::Field>)
    }
}

pub(crate) fn expand(input: &Input) -> TokenStream {
    let Input { name, krate, tail, .. } = input;
    let private = quote!(#krate::__private);
    let core = quote!(#private::core);
    let fields = fields_of(&input.fields);
    let empty = fields.iter().all(|field| field.phantom);

    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let init_name = Ident::new(&format!("{name}Init"), Span::call_site().located_at(name.span()));
    let (init_struct, init_type) =
        if empty { (None, quote!(())) } else { init_struct(input, &init_name, &fields, &private) };

    let maps = fields.iter().filter(|field| !field.phantom).map(|field| {
        let (member, ty, as_field) = (&field.member, field.ty, field.as_field(&private));
        quote! {
            let map = #private::WordMap::with_field::<Self, #ty>(map, #as_field::MAP, #core::mem::offset_of!(Self, #member));
        }
    });
    let names = fields.iter().filter(|field| !field.phantom).map(|field| {
        let (member, ty, as_field) = (&field.member, field.ty, field.as_field(&private));
        let name = member_name(member);
        quote! {
            #private::FieldName::of::<#ty>(
                #name, #core::mem::offset_of!(Self, #member), #as_field::ELEMENT_BYTES, #as_field::FIELDS,
            )
        }
    });
    let writes = fields.iter().map(|field| {
        let (member, as_field) = (&field.member, field.as_field(&private));
        match (field.phantom, empty) {
            (true, true) => {
                quote!(#core::ptr::write(&raw mut (*_dst).#member, #core::marker::PhantomData);)
            }
            (true, false) => quote!(#core::ptr::write(&raw mut (*_dst).#member, _init.#member);),
            (false, _) => quote!(#as_field::write(_init.#member, &raw mut (*_dst).#member);),
        }
    });
    let members = fields.iter().map(|field| &field.member);

    let tail_type = match tail {
        Some(tail) => quote_spanned!(tail.span()=> #tail),
        None => quote!(#private::NoTail),
    };
    // A plain type's kind is a static, whose address is its identity. A generic one has no static to stand in.
    let kind = if input.generics.params.is_empty() {
        quote! {{
            static KIND: #private::Kind = #private::Kind::of::<#name>(false);
            &KIND
        }}
    } else {
        quote!(&#private::Kind::of::<Self>(true))
    };

    let identity_hash = input.identity_hash;
    let hash_impl = identity_hash.then(|| {
        quote! {
            // SAFETY: the constant beside it says so.
            #[automatically_derived]
            unsafe impl #impl_generics #private::IdentityHash for #name #ty_generics #where_clause {}
        }
    });
    let field_impl = tail.is_none().then(|| {
        quote! {
            // SAFETY: the same map and the same writes as the struct's own.
            #[automatically_derived]
            unsafe impl #impl_generics #private::Field for #name #ty_generics #where_clause {
                type Init<'g> = #init_type;
                const MAP: #private::WordMap = <Self as #private::Trace>::MAP;
                const FIELDS: &'static [#private::FieldName] = <Self as #private::Trace>::FIELDS;

                #[inline(always)]
                unsafe fn write<'g>(init: Self::Init<'g>, dst: *mut Self) {
                    // SAFETY: passed on.
                    unsafe { <Self as #private::Trace>::write(init, dst) }
                }
            }
        }
    });
    let init_impl = (!empty && tail.is_none()).then(|| {
        let generics = with_g(input);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        quote! {
            // SAFETY: the object's own `write` initialises every field.
            #[automatically_derived]
            unsafe impl #impl_generics #private::Init<'g> for #init_type #where_clause {
                type Object = #name #ty_generics;

                #[inline(always)]
                unsafe fn write(self, dst: *mut Self::Object) {
                    // SAFETY: passed on.
                    unsafe { <Self::Object as #private::Trace>::write(self, dst) }
                }
            }
        }
    });

    quote! {
        #init_struct

        // SAFETY: the map is composed of the fields' own at their offsets, the kind is this type's, and every field is written.
        #[automatically_derived]
        unsafe impl #impl_generics #private::Trace for #name #ty_generics #where_clause {
            type Init<'g> = #init_type;
            type Tail = #tail_type;

            const MAP: #private::WordMap = {
                let map = #private::WordMap::empty_for::<Self>();
                #(#maps)*
                map
            };
            const FIELDS: &'static [#private::FieldName] = &[#(#names,)*];
            const KIND: &'static #private::Kind = #kind;
            const IDENTITY_HASH: bool = #identity_hash;

            // Named so that no lint wants them used: a struct without fields uses neither.
            #[inline(always)]
            unsafe fn write<'g>(_init: Self::Init<'g>, _dst: *mut Self) {
                // Fails to compile when a field was added after the derive has seen the struct.
                let _ = |all: Self| { let Self { #(#members: _,)* } = all; };
                // SAFETY: each field lies in `dst`, which the caller vouches for.
                unsafe { #(#writes)* }
            }
        }

        #hash_impl
        #field_impl
        #init_impl
    }
}

/// The generics of the struct with `'g` in front.
fn with_g(input: &Input) -> syn::Generics {
    let mut generics = input.generics.clone();
    generics.params.insert(0, parse_quote!('g));
    generics
}

/// The init struct, and its type in an impl that has `'g`.
fn init_struct(
    input: &Input,
    init_name: &Ident,
    fields: &[FieldOf<'_>],
    private: &TokenStream,
) -> (Option<TokenStream>, TokenStream) {
    let Input { vis, name, .. } = input;
    let generics = with_g(input);
    let (_, ty_generics, where_clause) = generics.split_for_impl();
    let doc = format!("What a new [`{name}`] is made from.");
    let init_fields = fields.iter().map(|field| {
        let FieldOf { member, vis, docs, ty, phantom } = field;
        let docs = if docs.is_empty() {
            let doc = format!("What `{}` starts as.", member_name(member));
            quote!(#[doc = #doc])
        } else {
            quote!(#(#docs)*)
        };
        let ty = if *phantom {
            quote!(#ty)
        } else {
            let as_field = field.as_field(private);
            quote_spanned!(ty.span()=> #as_field::Init<'g>)
        };
        match member {
            Member::Named(member) => quote!(#docs #vis #member: #ty),
            Member::Unnamed(_) => quote!(#docs #vis #ty),
        }
    });
    let body = match input.fields {
        Fields::Named(_) => quote!(#where_clause { #(#init_fields,)* }),
        _ => quote!((#(#init_fields,)*) #where_clause;),
    };
    let init_struct = quote! {
        #[doc = #doc]
        #vis struct #init_name #generics #body
    };
    (Some(init_struct), quote!(#init_name #ty_generics))
}

fn member_name(member: &Member) -> String {
    match member {
        Member::Named(name) => name.to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}

fn fields_of(fields: &Fields) -> Vec<FieldOf<'_>> {
    fields
        .iter()
        .enumerate()
        .map(|(i, field)| FieldOf {
            member: match &field.ident {
                Some(name) => Member::Named(name.clone()),
                None => Member::Unnamed(Index::from(i)),
            },
            vis: &field.vis,
            docs: field.attrs.iter().filter(|attr| attr.path().is_ident("doc")).collect(),
            ty: &field.ty,
            phantom: is_phantom(&field.ty),
        })
        .collect()
}
