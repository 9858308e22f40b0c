//! Several training seeds, for people.

use std::collections::BTreeSet;

use super::super::{Doubt, Measure, OverSeeds, SeedDifference, SeedValues, Verdict};
use super::{difference, header, line, or_dash, p_value, push, row, size};

impl OverSeeds {
    /// Two tables: the systems in every seed, and their differences from the baseline.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        let n = self.seeds.len();
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        let intervals = if self.values.iter().any(|v| v.interval.is_some()) {
            "Intervals are 95 %, by bootstrap over seeds and prompts, drawn independently (crossed)."
        } else {
            "Fewer than five seeds say too little about their own spread: no interval is computed over them and no winner named."
        };
        push(&mut out, format!("{n} training seeds ({}): the mean, then each seed. {intervals}\n", seeds.join(", ")));
        let measures: BTreeSet<Measure> = self.values.iter().map(|v| v.measure).collect();
        let mut systems: Vec<&str> = Vec::new();
        for value in &self.values {
            if !systems.contains(&value.system.as_str()) {
                systems.push(&value.system);
            }
        }
        let names: Vec<String> = systems.iter().map(|name| line(name)).collect();
        header(&mut out, "measure", &names);
        for measure in measures {
            let cell = |name: &&str| {
                let found = self.values.iter().find(|v| v.system == **name && v.measure == measure);
                or_dash(found, values)
            };
            row(&mut out, measure.name(), systems.iter().map(cell));
        }
        out.push('\n');
        self.differences(&mut out);
        out
    }

    fn differences(&self, out: &mut String) {
        let Some(baseline) = self.baseline.as_ref().filter(|_| !self.differences.is_empty()) else {
            return;
        };
        push(out, format!("Against {} of the same seed, in points for rates:\n", line(baseline)));
        header(out, "system", &["measure", "prompts", "mean difference", "each seed", "p (Holm)", "smallest detectable", "verdict"]);
        for SeedDifference { values, p_holm, smallest_detectable, bias_allowed, verdict, doubt, .. } in &self.differences {
            let measure = values.measure;
            let verdict = match (verdict, bias_allowed) {
                (Verdict::NotDistinguishable, _) if *doubt == Some(Doubt::Seeds) => "–".to_owned(),
                (Verdict::NotDistinguishable, _) => "not distinguishable".to_owned(),
                (direction, Some(allowed)) => {
                    let word = if *direction == Verdict::Lower { "lower" } else { "higher" };
                    format!("{word}, if the judge's bias between the two is below {}", size(measure, *allowed))
                }
                (direction, None) => format!("{direction:?}").to_lowercase(),
            };
            let scale = if measure.is_rate() { 100.0 } else { 1.0 };
            let digits = if measure.is_rate() { 1 } else { 3 };
            let each: Vec<String> = values.each.iter().map(|x| format!("{:+.digits$}", scale * x)).collect();
            let mean =
                values.interval.map_or_else(|| format!("{:+.digits$}", scale * values.mean), |interval| difference(measure, &interval));
            let cells = [
                measure.name().to_owned(),
                values.prompts.to_string(),
                mean,
                each.join(", "),
                or_dash(p_holm.as_ref(), |p| p_value(*p)),
                or_dash(smallest_detectable.as_ref(), |smallest| size(measure, *smallest)),
                verdict,
            ];
            row(out, &line(&values.system), cells);
        }
        out.push('\n');
    }
}

/// The mean, its interval if there is one, and each seed; per cent for rates.
fn values(values: &SeedValues) -> String {
    let (scale, digits) = if values.measure.is_rate() { (100.0, 1) } else { (1.0, 3) };
    let show = |x: f64| format!("{:.digits$}", scale * x);
    let each: Vec<String> = values.each.iter().map(|x| show(*x)).collect();
    let interval = values.interval.map_or_else(String::new, |i| format!(" [{}, {}]", show(i.low), show(i.high)));
    format!("{}{interval} ({})", show(values.mean), each.join(", "))
}
