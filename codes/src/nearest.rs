//! "Did you mean": which known word a mistyped one is closest to.

/// Longer words are not compared: no key is that long, and the cost grows with the square.
const WORD_CHARS_MAX: usize = 40;

/// More candidates are not compared: a level has fewer keys, and a hostile recipe could declare thousands of names.
const CANDIDATES_MAX: usize = 200;

/// The candidate that is closest to `word`, if it is close enough to be meant. The first wins a tie.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > WORD_CHARS_MAX {
        return None;
    }
    // A third of the letters may be wrong: `prots` is `ports`, but `cat` is not `dog`.
    let allowed = (length / 3).max(1);
    candidates
        .take(CANDIDATES_MAX)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour; case does not count.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.to_lowercase().chars().collect();
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_else() {
        let known = ["ports", "image", "networks", "environment"];
        for (word, wanted) in [
            ("prots", Some("ports")),
            ("Image", Some("image")),
            ("network", Some("networks")),
            ("enviroment", Some("environment")),
            ("cat", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), wanted, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), known.into_iter()), None);
    }
}
