//! What the engine needs from the world: do one effect, say what is so now.

use std::sync::Arc;

use async_trait::async_trait;
use skep_ledger::{Term, View};
use skep_model::fact::Fact;
use skep_model::operation::Operation;

use crate::Effect;
use crate::health::Lookout;

/// Whatever can bring effects about: drivers and engines, or a simulated world in tests.
#[async_trait]
pub trait World: Send + Sync + 'static {
    /// Brings the effect about, or finds that it is so already, and says what is true now.
    ///
    /// `view` is the state in which the effect was decided; `term` goes along to whoever can refuse an older one.
    async fn perform(
        &self,
        effect: &Effect,
        view: &View,
        operation: &Operation,
        term: Term,
    ) -> Result<Vec<Fact>, EffectError>;

    /// The world as those see it who only look; a world without one is not watched.
    fn lookout(self: Arc<Self>) -> Option<Arc<dyn Lookout>> {
        None
    }
}

/// An effect did not come about, or nobody knows.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct EffectError {
    /// What was tried and what came of it, for people.
    pub message: String,
    /// Would another try help?
    pub retryable: bool,
    /// What is known all the same.
    pub facts: Vec<Fact>,
}

impl EffectError {
    /// Another try may help.
    pub fn passing(message: impl std::fmt::Display) -> EffectError {
        EffectError { message: message.to_string(), retryable: true, facts: vec![] }
    }

    /// Another try would come to the same.
    pub fn lasting(message: impl std::fmt::Display) -> EffectError {
        EffectError { message: message.to_string(), retryable: false, facts: vec![] }
    }

    /// With what is known all the same.
    pub fn knowing(self, facts: Vec<Fact>) -> EffectError {
        EffectError { facts, ..self }
    }
}
