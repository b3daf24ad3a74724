//! What is wrong with a recipe, and where.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that is wrong, in words for the person who wrote the recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct RecipeError {
    /// Which value, from the top: `services.web.ports[0]`. Empty for the recipe as a whole.
    pub pointer: String,
    /// From 1. None if the error belongs to no line.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead, where that is known.
    pub hint: Option<String>,
}

impl RecipeError {
    /// An error of the recipe as a whole.
    pub(super) fn whole(message: String) -> RecipeError {
        RecipeError { pointer: String::new(), line: None, column: None, message, hint: None }
    }
}

/// `line 7: services.web.prots: unknown key; did you mean 'ports'?`
impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}
