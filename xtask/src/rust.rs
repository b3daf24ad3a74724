//! A Rust file as a flat list of tokens: what a rule can look at without being misled by comments and strings.
//!
//! Tokens and not a syntax tree: the inside of macros (`select!`, `assert!`) is read like everything else, and the
//! rules need no more than words in a row, where they stand, and how long functions are.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// One file.
#[derive(Debug)]
pub(crate) struct RustFile {
    /// From the root of the repository.
    pub(crate) path: String,
    /// All tokens in order; brackets are tokens of their own.
    pub(crate) tokens: Vec<Token>,
    /// All functions with a body.
    pub(crate) functions: Vec<Function>,
    /// Lines that are not inside `#[cfg(test)]`.
    pub(crate) product_lines: usize,
}

/// One token.
#[derive(Debug)]
pub(crate) struct Token {
    /// A word, one character of punctuation, a bracket, or a literal.
    pub(crate) text: String,
    /// Line, counted from one.
    pub(crate) line: usize,
    /// Is it part of a test, or of what tests share?
    pub(crate) in_test: bool,
    /// Is it inside a loop of its function?
    pub(crate) in_loop: bool,
}

/// One function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// Where it begins.
    pub(crate) line: usize,
    /// From its first to its last line.
    pub(crate) lines: usize,
}

impl RustFile {
    /// Reads a file.
    pub(crate) fn read(path: &str, text: &str) -> Result<RustFile> {
        let stream: TokenStream = text.parse().map_err(|error| anyhow!("reading {path}: {error}"))?;
        let mut file = RustFile {
            path: path.to_owned(),
            tokens: vec![],
            functions: vec![],
            product_lines: text.lines().count(),
        };
        file.flatten(stream, Place { in_test: is_test_path(path), in_loop: false });
        Ok(file)
    }

    /// Where a row of tokens stands. The row is written with spaces between words and punctuation, for example
    /// `Uuid :: now_v7` or `. unwrap ( )`.
    pub(crate) fn find(&self, row: &str) -> Vec<&Token> {
        let row: Vec<String> = row.split_whitespace().flat_map(pieces).collect();
        let is_it = |window: &&[Token]| window.iter().zip(&row).all(|(token, piece)| token.text == *piece);
        self.tokens.windows(row.len()).filter(is_it).map(|window| &window[0]).collect()
    }

    fn flatten(&mut self, stream: TokenStream, place: Place) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        let mut ahead = Ahead::default();
        for (index, tree) in trees.iter().enumerate() {
            match tree {
                TokenTree::Group(group) => {
                    self.flatten_group(group, place, &mut ahead);
                }
                TokenTree::Ident(word) => {
                    ahead.word(&word.to_string(), &trees[index..]);
                    self.push(word.to_string(), line_of(tree), place);
                }
                TokenTree::Punct(mark) => {
                    if mark.as_char() == ';' {
                        ahead = Ahead::default();
                    }
                    self.push(mark.as_char().to_string(), line_of(tree), place);
                }
                TokenTree::Literal(literal) => self.push(literal.to_string(), line_of(tree), place),
            }
        }
    }

    fn flatten_group(&mut self, group: &Group, place: Place, ahead: &mut Ahead) {
        let (first, last) = (group.span_open().start().line, group.span_close().end().line);
        let mut inside = place;
        if group.delimiter() == Delimiter::Brace {
            if ahead.tests && !place.in_test {
                inside.in_test = true;
                self.product_lines -= last - first + 1;
            }
            inside.in_loop = ahead.repeats || (place.in_loop && ahead.function.is_none());
            if let Some((name, line)) = ahead.function.take() {
                self.functions.push(Function { name, line, lines: last - line + 1 });
            }
            *ahead = Ahead::default();
        } else if group.delimiter() == Delimiter::Bracket && is_cfg_test(group) {
            ahead.tests = true;
        }
        let (open, close) = match group.delimiter() {
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::None => ("", ""),
        };
        self.push(open.to_owned(), first, place);
        self.flatten(group.stream(), inside);
        self.push(close.to_owned(), last, place);
    }

    fn push(&mut self, text: String, line: usize, place: Place) {
        self.tokens.push(Token { text, line, in_test: place.in_test, in_loop: place.in_loop });
    }
}

#[derive(Clone, Copy)]
struct Place {
    in_test: bool,
    in_loop: bool,
}

/// What the next block will be, from the words in front of it.
#[derive(Default)]
struct Ahead {
    tests: bool,
    repeats: bool,
    implements: bool,
    function: Option<(String, usize)>,
}

impl Ahead {
    fn word(&mut self, word: &str, rest: &[TokenTree]) {
        match word {
            "impl" => self.implements = true,
            "loop" | "while" => self.repeats = true,
            // `impl Trait for Type` repeats nothing.
            "for" => self.repeats |= !self.implements,
            "fn" => {
                if let Some(name @ TokenTree::Ident(_)) = rest.get(1) {
                    self.function = Some((name.to_string(), line_of(&rest[0])));
                }
            }
            _ => {}
        }
    }
}

fn is_test_path(path: &str) -> bool {
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    path.starts_with("chaos-tests/")
        || path.contains("/tests/")
        || stem == "tests"
        || stem == "testing"
        || stem.ends_with("_tests")
}

fn is_cfg_test(attribute: &Group) -> bool {
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

fn line_of(tree: &TokenTree) -> usize {
    tree.span().start().line
}

/// A word stays whole; punctuation is taken apart as the lexer does it.
fn pieces(word: &str) -> Vec<String> {
    let is_literal = word.starts_with('"');
    if is_literal || word.chars().all(|c| c.is_alphanumeric() || c == '_') {
        vec![word.to_owned()]
    } else {
        word.chars().map(String::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RustFile {
        RustFile::read("model/src/host.rs", text).expect("is Rust")
    }

    #[test]
    fn words_in_comments_and_strings_are_not_found() {
        let file =
            read("// Uuid::now_v7()\nconst A: &str = \"Uuid::now_v7()\";\nfn f() { g(Uuid::now_v7()) }\n");
        let lines: Vec<_> = file.find("Uuid :: now_v7").iter().map(|token| token.line).collect();
        assert_eq!(lines, [3]);
    }

    #[test]
    fn words_inside_macros_are_found() {
        let file = read("fn f() { select! { () = sleep(PAUSE) => todo!() } }");
        assert_eq!((file.find("sleep (").len(), file.find("todo !").len()), (1, 1));
    }

    #[test]
    fn functions_know_their_length_and_trait_functions_without_body_are_none() {
        let file = read(
            "trait T {\n  fn a(&self);\n  fn b(\n    &self,\n  ) {\n    let c = |d: fn()| { d };\n  }\n}\n",
        );
        assert_eq!(file.functions, [Function { name: "b".into(), line: 3, lines: 5 }]);
    }

    #[test]
    fn what_is_compiled_for_tests_only_is_known() {
        let file = read("fn a() { x() }\n#[cfg(test)]\nmod tests {\n  fn b() { x() }\n}\nfn c() { x() }\n");
        let in_test: Vec<_> = file.find("x (").iter().map(|token| token.in_test).collect();
        assert_eq!((in_test, file.product_lines), (vec![false, true, false], 3));
    }

    #[test]
    fn a_loop_is_left_with_its_block_and_by_a_function() {
        let text =
            "impl A for B { fn a() { x(); loop { x(); if c { x(); } } x(); while c() { fn d() { x(); } } } }";
        let in_loop: Vec<_> = read(text).find("x (").iter().map(|token| token.in_loop).collect();
        assert_eq!(in_loop, [false, true, true, false, false]);
    }
}
