//! Writes the init struct and the impls.
//!
//! What is written here stands in the embedder's crate, where a path may lead anywhere, and where
//! another macro may change the struct after the derive has read it. `object::derived` of `gc-heap`
//! says by which rules it is sound all the same; whoever adds a line here keeps them: no path is
//! called in an `unsafe` block, no type is named where a field's place tells it.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Fields, Ident, Index, Member, Type, Visibility, parse_quote};

use crate::input::{Input, is_phantom};

/// A field. `phantom` tells by the name only, and so only decides what the initialiser looks like.
struct FieldOf<'a> {
    member: Member,
    vis: &'a Visibility,
    docs: Vec<&'a Attribute>,
    ty: &'a Type,
    phantom: bool,
}

impl FieldOf<'_> {
    /// This field of what a variable holds (`&raw const (*variable)`, `(variable)`, written by
    /// `of`). An error in it is told of the field's type, from its first token to its last; the
    /// variable is still the one of the derive's code, in whatever macro that stands.
    fn of(&self, variable: &str, of: impl FnOnce(Span, Ident) -> TokenStream) -> TokenStream {
        let spans: Vec<Span> = self.ty.to_token_stream().into_iter().map(|token| token.span()).collect();
        let first = spans.first().copied().unwrap_or_else(Span::call_site);
        let last = spans.last().copied().unwrap_or_else(Span::call_site);
        let of = of(first, Ident::new(variable, Span::call_site().located_at(first)));
        let mut member = self.member.clone();
        match &mut member {
            Member::Named(name) => name.set_span(last),
            Member::Unnamed(index) => index.span = last,
        }
        quote_spanned!(last=> #of.#member)
    }
}

pub(crate) fn expand(input: &Input) -> TokenStream {
    let Input { name, krate, tail, .. } = input;
    let private = quote!(#krate::__private);
    let fields = fields_of(&input.fields);
    let empty = fields.iter().all(|field| field.phantom);

    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let g = &input.lifetime;
    let init_name = format_ident!("{}Init", name, span = Span::call_site().located_at(name.span()));
    let (init_struct, init_type) =
        if empty { (None, quote!(())) } else { init_struct(input, &init_name, &fields, &private) };

    // A value of 4096 bytes, all that an object may have: syntax only. Of a longer struct nothing
    // is asked.
    let object = quote!(&[0_u64; 512] as *const _ as *const Self);
    // All has the place of the field's type, and the field's own trait is spelled the same
    // everywhere, so that a type that is no field is reported once.
    let object_name = Ident::new("__gc_heap_object", Span::call_site());
    let place =
        |field: &FieldOf<'_>| field.of("__gc_heap_object", |span, object| quote_spanned!(span=> &raw const (*#object)));
    let maps = fields.iter().map(|field| {
        let (ty, place) = (field.ty, place(field));
        quote_spanned!(ty.span()=> .__gc_heap_field(#place, <#ty as #private::Field>::OF))
    });
    let names = fields.iter().filter(|field| !field.phantom).map(|field| {
        let (ty, name, place) = (field.ty, member_name(&field.member), place(field));
        let derived = quote!(<Self as #private::Trace>::DERIVED);
        quote_spanned!(ty.span()=> #derived.__gc_heap_name(#object_name, #place, <#ty as #private::Field>::OF, #name))
    });
    let writes = fields.iter().map(|field| {
        let to = field.of("__gc_heap_to", |span, to| quote_spanned!(span=> &raw mut (*#to)));
        let derived = quote!(<Self as #private::Trace>::DERIVED);
        if empty {
            quote_spanned!(field.ty.span()=> #derived.__gc_heap_phantom(#to);)
        } else {
            let init = field.of("__gc_heap_init", |span, init| quote_spanned!(span=> (#init)));
            quote_spanned!(field.ty.span()=> #derived.__gc_heap_write::<#g, _, _>(#init, #to);)
        }
    });
    let members = fields.iter().map(|field| &field.member);
    let bindings = (0..fields.len()).map(|index| format_ident!("__gc_heap_{}", index));

    let tail_type = match tail {
        Some(tail) => quote_spanned!(tail.span()=> #tail),
        None => quote!(#private::NoTail),
    };
    // A plain type's kind is a static, whose address is its identity. A generic one has no static
    // to stand in.
    let kind = if input.generics.params.is_empty() {
        quote! {{
            static KIND: #private::Kind = <#name as #private::Trace>::DERIVED.__gc_heap_kind::<#name>(false);
            &KIND
        }}
    } else {
        quote!(&<Self as #private::Trace>::DERIVED.__gc_heap_kind::<Self>(true))
    };

    let grows = input.grows.then(|| {
        quote!(
            const GROWS: bool = true;
        )
    });
    let hash_type = if input.identity_hash { quote!(#private::HashWord) } else { quote!(#private::NoHashWord) };
    let hash_impl = input.identity_hash.then(|| {
        quote! {
            // SAFETY: the trait asks for nothing that the compiler does not compare.
            #[automatically_derived]
            unsafe impl #impl_generics #private::IdentityHash for #name #ty_generics #where_clause {
                const HAS_IDENTITY_HASH: () = ();
            }
        }
    });
    let field_impl = tail.is_none().then(|| {
        quote! {
            // SAFETY: the same map and the same writes as the struct's own: of `gc_heap`'s `Trace`,
            // whatever stands above.
            #[automatically_derived]
            unsafe impl #impl_generics #private::Field for #name #ty_generics #where_clause {
                type Init<#g> = #init_type;
                const MAP: #private::WordMap = <Self as #private::Field>::DERIVED.__gc_heap_map_of::<Self>();
                const FIELDS: &'static [#private::FieldName] = <Self as #private::Field>::DERIVED.__gc_heap_names_of::<Self>();

                #[inline(always)]
                unsafe fn write<#g>(__gc_heap_init: <Self as #private::Field>::Init<#g>, __gc_heap_to: *mut Self) {
                    // SAFETY: passed on.
                    unsafe { <Self as #private::Field>::DERIVED.__gc_heap_object::<Self>(__gc_heap_init, __gc_heap_to) }
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
            unsafe impl #impl_generics #private::Init<#g> for #init_type #where_clause {
                type Object = #name #ty_generics;

                #[inline(always)]
                unsafe fn write(self, __gc_heap_to: *mut <Self as #private::Init<#g>>::Object) {
                    // SAFETY: passed on.
                    unsafe { <Self as #private::Init<#g>>::DERIVED.__gc_heap_object(self, __gc_heap_to) }
                }
            }
        }
    });

    quote! {
        #init_struct

        // SAFETY: the map is composed of the fields' own at their offsets, the kind is this type's,
        // and every field is written.
        #[automatically_derived]
        unsafe impl #impl_generics #private::Trace for #name #ty_generics #where_clause {
            type Init<#g> = #init_type;
            type Tail = #tail_type;
            type Hash = #hash_type;

            const MAP: #private::WordMap = {
                // Fails to compile when a field was added after the derive has seen the struct, or
                // the struct was packed, or made a union: safe code (an `unsafe fn` is none in all
                // editions) has no reference to such a field.
                let _ = |__gc_heap_all: &Self| { let Self { #(#members: #bindings,)* } = __gc_heap_all; };
                let __gc_heap_object = #object;
                // SAFETY: the object's 4096 bytes; and each field, once.
                unsafe { <Self as #private::Trace>::DERIVED.__gc_heap_map(__gc_heap_object)#(#maps)*.__gc_heap_whole() }
            };
            const FIELDS: &'static [#private::FieldName] = {
                let __gc_heap_object = #object;
                // SAFETY: each is the place of a field.
                unsafe { &[#(#names,)*] }
            };
            const KIND: &'static #private::Kind = #kind;
            #grows

            #[inline(always)]
            unsafe fn write<#g>(__gc_heap_init: <Self as #private::Trace>::Init<#g>, __gc_heap_to: *mut Self) {
                // SAFETY: each field lies in `__gc_heap_to`, which the caller vouches for.
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
    let g = &input.lifetime;
    generics.params.insert(0, parse_quote!(#g));
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
    // The struct's types may say `Self`, and here that would be another.
    let (_, own_generics, _) = input.generics.split_for_impl();
    let own_generics = own_generics.as_turbofish();
    let own = quote!(#name #own_generics);
    let where_clause = where_clause.map(|clause| without_self(clause.to_token_stream(), &own));
    let doc = format!("What a new [`{name}`] is made from.");
    let init_fields = fields.iter().map(|field| {
        let FieldOf { member, vis, docs, ty, phantom } = field;
        let docs = if docs.is_empty() {
            let doc = format!("What `{}` starts as.", member_name(member));
            quote!(#[doc = #doc])
        } else {
            quote!(#(#docs)*)
        };
        let own_ty = without_self(ty.to_token_stream(), &own);
        let ty = if *phantom {
            own_ty
        } else {
            let g = &input.lifetime;
            quote_spanned!(ty.span()=> <#own_ty as #private::Field>::Init<#g>)
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

/// The tokens with `own` for each `Self`.
fn without_self(tokens: TokenStream, own: &TokenStream) -> TokenStream {
    let each = |token| match token {
        TokenTree::Ident(name) if name == "Self" => own.clone(),
        TokenTree::Group(group) => {
            let mut new = Group::new(group.delimiter(), without_self(group.stream(), own));
            new.set_span(group.span());
            TokenTree::Group(new).into()
        }
        other => other.into(),
    };
    tokens.into_iter().map(each).collect::<Vec<TokenStream>>().into_iter().collect()
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
