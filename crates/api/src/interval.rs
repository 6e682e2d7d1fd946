//! How far a share that was counted can be believed.

/// 0.975 quantile of the normal distribution.
const Z_95: f64 = 1.959_964;

/// Bounds of a share of which `right` of `n` were seen, with 95 % confidence; `n` is at least 1.
///
/// # Source
/// Wilson, "Probable inference, the law of succession, and statistical inference", 1927
pub fn wilson(right: u64, n: u64) -> [f64; 2] {
    let (n, share, z2) = (n as f64, right as f64 / n as f64, Z_95 * Z_95);
    let middle = share + z2 / (2.0 * n);
    let reach = Z_95 * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    [middle - reach, middle + reach].map(|bound| (bound / (1.0 + z2 / n)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pictures_leave_a_wide_interval() {
        // The usual worked example of Wilson's interval: 8 of 10.
        let [least, most] = wilson(8, 10);
        assert!((least - 0.4902).abs() < 1e-4 && (most - 0.9433).abs() < 1e-4, "{least} {most}");
        let [least, most] = wilson(10, 10);
        assert!((least - 0.7225).abs() < 1e-4 && (1.0 - most).abs() < 1e-9, "{least} {most}");
    }
}
