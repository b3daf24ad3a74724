//! For how long and how often a token may be used: the same questions for managers' and hosts' tokens.

use jiff::{SignedDuration, Timestamp};

use crate::{Refusal, Ruling};

/// The longest life and the most uses of one kind of token, and what the two are called in a refusal.
pub(crate) struct Bounds {
    pub(crate) life: (&'static str, SignedDuration),
    pub(crate) uses: (&'static str, u32),
}

/// When a token that is made now for `life` ends; refused if life or uses are out of bounds.
pub(crate) fn end(now: Timestamp, life: SignedDuration, uses: u32, bounds: &Bounds) -> Ruling<Timestamp> {
    let wrong = |what, value: String, allowed: String| Err(Refusal::InvalidValue { what, value, allowed });
    let (what, longest) = bounds.life;
    if !life.is_positive() || life > longest {
        let allowed = format!("1 second to {} hours", longest.as_hours());
        return wrong(what, format!("{} s", life.as_secs()), allowed);
    }
    let (what, most) = bounds.uses;
    if !(1..=most).contains(&uses) {
        return wrong(what, uses.to_string(), format!("1 to {most}"));
    }
    Ok(now.checked_add(life).unwrap_or(Timestamp::MAX))
}
