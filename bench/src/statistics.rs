//! Medians and ratios: all the arithmetic of the report.

/// The value in the middle; of two in the middle their mean. `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// How often `ours` is `theirs`: the median over the rounds of the ratio of neighbours. Rounds that lie side by side
/// saw the same machine, so this is steadier than the ratio of the medians. `None` without a pair.
pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let pairs = ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0);
    median(&pairs.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
}

/// The largest value. `None` of nothing.
pub(crate) fn largest(values: &[f64]) -> Option<f64> {
    values.iter().copied().max_by(f64::total_cmp)
}

/// Rounded for people.
pub(crate) fn rounded(value: f64, decimals: i32) -> f64 {
    let factor = 10f64.powi(decimals);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_however_the_values_come() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn the_ratio_compares_neighbours() {
        // The machine became half as fast for everybody: the ratio did not change.
        assert_eq!(ratio(&[200.0, 100.0, 200.0], &[100.0, 50.0, 100.0]), Some(2.0));
        assert_eq!(ratio(&[1.0], &[0.0]), None);
        assert_eq!(ratio(&[], &[]), None);
    }

    #[test]
    fn the_largest_and_rounding() {
        assert_eq!(largest(&[1.0, 3.0, 2.0]), Some(3.0));
        assert_eq!(largest(&[]), None);
        assert_eq!(rounded(1.23456, 2), 1.23);
    }
}
