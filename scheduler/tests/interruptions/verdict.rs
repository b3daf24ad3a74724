//! What is wrong with a story, and which of those with something wrong is the shortest: that one is read by people.

use skep_model::operation::State;

use crate::story::Told;

/// One chapter's name, and how it ended.
type Chapter = (&'static str, Vec<String>);

/// What was found wrong so far.
#[derive(Default)]
pub(crate) struct Verdicts {
    told: usize,
    failing: Vec<(Vec<String>, String)>,
}

impl Verdicts {
    /// A fault must not be seen in the end of any chapter.
    pub(crate) fn same_end(&mut self, what: &str, told: &Told, chapters: &[Chapter]) {
        let mut wrong = vec![];
        for (chapter, expected) in chapters {
            let found = told.chapters.iter().find(|(name, _)| name == chapter).map(|(_, state)| state);
            if found != Some(expected) {
                wrong.push(format!("chapter '{chapter}' ended with {found:#?} instead of {expected:#?}"));
                break;
            }
        }
        wrong.extend(told.failed.iter().map(|failed| format!("failed: {failed}")));
        self.hear(what, told, wrong);
    }

    /// What was cancelled has come to its end, unless it was refused with a reason; everything can still be removed.
    pub(crate) fn cancelled(&mut self, what: &str, told: &Told) {
        let mut wrong = match &told.cancelled {
            None => vec!["nothing was cancelled".to_owned()],
            Some(Err(why)) if why.contains("cannot be cancelled: ") => vec![],
            Some(Err(why)) => vec![format!("refused without a reason: {why}")],
            Some(Ok(operation)) if operation.state == State::Cancelled => vec![],
            Some(Ok(operation)) => vec![format!("is {:?}: {}", operation.state, operation.message)],
        };
        wrong.extend(told.world.left_over().iter().map(|left| format!("left over: {left}")));
        wrong.extend(told.unaccounted.iter().map(|machine| format!("no ledger row knows {machine}")));
        self.hear(what, told, wrong);
    }

    /// No machine exists that the ledger does not know.
    pub(crate) fn accounted_for(&mut self, what: &str, told: &Told) {
        let wrong = told.unaccounted.iter().map(|machine| format!("no ledger row knows {machine}"));
        self.hear(what, told, wrong.collect());
    }

    fn hear(&mut self, what: &str, told: &Told, mut wrong: Vec<String>) {
        self.told += 1;
        wrong.extend(told.stuck.clone());
        wrong.extend(told.world.made_too_often());
        wrong.extend(told.world.quorums_lost());
        if !wrong.is_empty() {
            self.failing.push((told.transcript.clone(), format!("{what}:\n{}", wrong.join("\n"))));
        }
    }

    /// Fails with the shortest story that went wrong.
    pub(crate) fn pronounce(self) {
        let shortest = self.failing.iter().min_by_key(|(transcript, _)| transcript.len());
        if let Some((transcript, wrong)) = shortest {
            panic!(
                "{} of {} stories went wrong. The shortest:\n{}\n{wrong}",
                self.failing.len(),
                self.told,
                transcript.join("\n")
            );
        }
        println!("{} stories", self.told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Interruption, Story, Tale};

    #[tokio::test]
    async fn of_the_stories_that_fail_the_shortest_is_printed() {
        let long = Story::tell(Tale::Services, Interruption::Never).await;
        let short = Story::tell(Tale::Services, Interruption::NoAgents).await;
        let mut verdicts = Verdicts::default();
        verdicts.hear("long", &long, vec!["one thing".into()]);
        verdicts.hear("short", &short, vec!["another".into()]);
        let panicked = std::panic::catch_unwind(|| verdicts.pronounce()).expect_err("two are wrong");
        let text = panicked.downcast_ref::<String>().expect("is text");
        assert!(
            text.starts_with("2 of 2 stories went wrong. The shortest:\nchapter 'an environment"),
            "{text}"
        );
        assert!(text.ends_with("short:\nanother"), "{text}");
    }
}
