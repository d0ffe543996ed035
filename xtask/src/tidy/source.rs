//! One Rust file as the rules see it: its tokens, without comments and with test code marked,
//! and its functions.
//!
//! Words are looked for among tokens, not in the syntax tree, because the inside of a macro call
//! (`assert!(x.unwrap())`, `select! { … }`) is only tokens.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// One token. `::` is two of them, a group's delimiters are one each.
pub(crate) struct Token {
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// Counted from 0.
    column: usize,
    /// Part of an item under `#[cfg(test)]` or `#[test]`.
    pub(crate) test: bool,
}

impl Token {
    fn new(text: String, span: Span, test: bool) -> Token {
        let start = span.start();
        Token { text, line: start.line, column: start.column, test }
    }
}

/// One function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// From the signature to the closing brace; attributes and documentation not counted.
    pub(crate) lines: usize,
    /// A single expression of nothing but `self`: there is nothing to assert.
    pub(crate) getter: bool,
    pub(crate) test: bool,
}

/// One name that a `use` brings in, its groups resolved.
pub(crate) struct Import {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) test: bool,
}

/// What the rules know of one Rust file.
pub(crate) struct Source {
    pub(crate) tokens: Vec<Token>,
    pub(crate) functions: Vec<Function>,
    pub(crate) imports: Vec<Import>,
    /// Modules declared here as test code whose text is in another file.
    pub(crate) test_modules: Vec<String>,
}

impl Source {
    /// Reads a file. The error is the parser's sentence.
    pub(crate) fn parse(text: &str) -> Result<Source, String> {
        let syntax = syn::parse_file(text).map_err(|error| error.to_string())?;
        let tokens = tokens(text)?;
        let test = tokens.iter().filter(|token| token.test);
        let mut reader = Reader {
            test_places: test.map(|token| (token.line, token.column)).collect(),
            ..Reader::default()
        };
        reader.visit_file(&syntax);
        let Reader { functions, imports, test_modules, .. } = reader;
        Ok(Source { tokens, functions, imports, test_modules })
    }

    /// Where these tokens stand one after the other: the first of them, each time.
    pub(crate) fn occurrences(&self, pattern: &[&str]) -> impl Iterator<Item = &Token> {
        assert!(!pattern.is_empty(), "an empty pattern is everywhere");
        let windows = self.tokens.windows(pattern.len());
        let fits = move |window: &&[Token]| {
            window.iter().zip(pattern).all(|(token, wanted)| token.text == *wanted)
        };
        windows.filter(fits).map(|window| &window[0])
    }
}

/// The tokens of a text, comments left out.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let stream: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
    let mut tokens = Vec::new();
    flatten(stream, false, &mut tokens);
    Ok(tokens)
}

/// Appends the tokens of one level. An item begins to be test code with its attribute and ends
/// with its braces or its semicolon.
fn flatten(stream: TokenStream, test: bool, tokens: &mut Vec<Token>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut rest_is_test = test;
    let mut item_is_test = false;
    for (index, tree) in trees.iter().enumerate() {
        match test_attribute(&trees[index..]) {
            Some(Attribute::Inner) => rest_is_test = true,
            Some(Attribute::Outer) => item_is_test = true,
            None => {}
        }
        let test = rest_is_test || item_is_test;
        let mut push = |text: String, span: Span| tokens.push(Token::new(text, span, test));
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = delimiters(group.delimiter());
                push(open.to_owned(), group.span_open());
                flatten(group.stream(), test, tokens);
                tokens.push(Token::new(close.to_owned(), group.span_close(), test));
                item_is_test &= group.delimiter() != Delimiter::Brace;
            }
            TokenTree::Punct(punct) => {
                push(punct.as_char().to_string(), punct.span());
                item_is_test &= punct.as_char() != ';';
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => {
                push(tree.to_string(), tree.span());
            }
        }
    }
}

fn delimiters(delimiter: Delimiter) -> (&'static str, &'static str) {
    match delimiter {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}

enum Attribute {
    Inner,
    Outer,
}

/// Whether these tokens begin with an attribute that makes something test code.
fn test_attribute(trees: &[TokenTree]) -> Option<Attribute> {
    let is_punct = |index: usize, wanted: char| match trees.get(index) {
        Some(TokenTree::Punct(punct)) => punct.as_char() == wanted,
        _ => false,
    };
    if !is_punct(0, '#') {
        return None;
    }
    let (index, attribute) =
        if is_punct(1, '!') { (2, Attribute::Inner) } else { (1, Attribute::Outer) };
    let Some(TokenTree::Group(group)) = trees.get(index) else {
        return None;
    };
    let mut text = group.stream().to_string();
    text.retain(|letter| !letter.is_whitespace());
    let test = text == "test" || text == "cfg(test)" || text.starts_with("cfg(all(test,");
    test.then_some(attribute)
}

/// Collects functions and imports from the syntax tree.
#[derive(Default)]
struct Reader {
    /// Line and column of each token in test code.
    test_places: BTreeSet<(usize, usize)>,
    functions: Vec<Function>,
    imports: Vec<Import>,
    test_modules: Vec<String>,
}

impl Reader {
    fn is_test(&self, span: Span) -> bool {
        let start = span.start();
        self.test_places.contains(&(start.line, start.column))
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let line = signature.fn_token.span.start().line;
        let end = block.brace_token.span.close().end().line;
        assert!(end >= line, "a function ends after it begins");
        let only_self = !signature.inputs.iter().any(|it| matches!(it, syn::FnArg::Typed(_)));
        let one_expression = matches!(block.stmts.as_slice(), [] | [syn::Stmt::Expr(_, None)]);
        self.functions.push(Function {
            name: signature.ident.to_string(),
            line,
            lines: end - line + 1,
            getter: only_self && one_expression,
            test: self.is_test(signature.fn_token.span),
        });
    }

    fn import(&mut self, prefix: &str, tree: &syn::UseTree) {
        let mut name = |ident: &syn::Ident| {
            let line = ident.span().start().line;
            let test = self.is_test(ident.span());
            self.imports.push(Import { path: format!("{prefix}{ident}"), line, test });
        };
        match tree {
            syn::UseTree::Name(leaf) => name(&leaf.ident),
            syn::UseTree::Rename(leaf) => name(&leaf.ident),
            syn::UseTree::Path(path) => {
                self.import(&format!("{prefix}{}::", path.ident), &path.tree);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(prefix, tree);
                }
            }
            syn::UseTree::Glob(star) => {
                let span = star.star_token.spans[0];
                let (line, test) = (span.start().line, self.is_test(span));
                self.imports.push(Import { path: format!("{prefix}*"), line, test });
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import("", &item.tree);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_none() && self.is_test(item.mod_token.span) {
            self.test_modules.push(item.ident.to_string());
        }
        visit::visit_item_mod(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Source {
        Source::parse(text).expect("the example is Rust")
    }

    #[test]
    fn test_code_is_marked_from_its_attribute_to_its_end() {
        let source = parse(
            "fn a() { one } #[cfg(test)] use two; fn b() { three } \
             #[cfg(test)] mod tests { fn c() { four } } fn d() { five } \
             #[test] fn e<A, B>() -> [u8; 3] { six } \
             mod f { #![cfg(test)] fn g() { seven } } \
             #[cfg(not(test))] fn h() { eight }",
        );
        let words = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
        let marked = |word: &&str| {
            let token = source.tokens.iter().find(|token| token.text == **word);
            token.expect("the word is in the example").test
        };
        let tests: Vec<&str> = words.iter().copied().filter(|word| marked(word)).collect();
        assert_eq!(tests, ["two", "four", "six", "seven"]);
    }

    #[test]
    fn functions_are_measured_without_attributes_and_comments() {
        let source = parse("/// Doc.\n#[inline]\nfn a(\n    b: u8,\n) -> u8 {\n    b\n}\n");
        let a = &source.functions[0];
        assert_eq!((a.name.as_str(), a.line, a.lines, a.getter), ("a", 3, 5, false));
    }

    #[test]
    fn getters_have_one_expression_and_nothing_but_self() {
        let source = parse(
            "impl A { fn yes(&self) -> u8 { self.0 } fn new() -> A { A(0) } \
             fn no(&self, b: u8) -> u8 { b } fn two(&self) -> u8 { self.1 = 1; self.0 } }",
        );
        let getters = source.functions.iter().filter(|it| it.getter);
        let getters: Vec<&str> = getters.map(|it| it.name.as_str()).collect();
        assert_eq!(getters, ["yes", "new"]);
    }

    #[test]
    fn imports_are_resolved_out_of_their_groups() {
        let source = parse("use std::{fs, collections::{BTreeMap as Map, *}};");
        let paths: Vec<&str> = source.imports.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(paths, ["std::fs", "std::collections::BTreeMap", "std::collections::*"]);
    }

    #[test]
    fn words_in_comments_and_strings_are_no_tokens() {
        let source =
            parse("//! word\nfn a() { /* word */ b(\"word\") } // word\n/// word\nfn c() {}");
        assert_eq!(source.occurrences(&["word"]).count(), 0);
        assert_eq!(source.occurrences(&["b", "("]).count(), 1);
    }
}
