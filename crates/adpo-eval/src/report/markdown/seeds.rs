//! Several training seeds, for people.

use super::super::{Doubt, Measure, OverSeeds, SeedDifference, SeedValues, Verdict};
use super::{difference, header, line, listed, or_dash, p_value, paragraph, push, row, size, value};

impl OverSeeds {
    /// What came out over all seeds, the systems in every seed, and their differences from the baseline.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        paragraph(&mut out, self.result());
        let systems = self.systems();
        let names: Vec<String> = systems.iter().map(|name| line(name)).collect();
        header(&mut out, "mean (each seed)", &names);
        for measure in self.measures() {
            let cell = |name: &&str| or_dash(self.values.iter().find(|v| v.system == **name && v.measure == measure), values);
            row(&mut out, measure.short(), systems.iter().map(cell));
        }
        out.push('\n');
        self.differences(&mut out);
        out
    }

    fn measures(&self) -> impl Iterator<Item = Measure> {
        Measure::ALL.into_iter().filter(|measure| self.values.iter().any(|v| v.measure == *measure))
    }

    fn systems(&self) -> Vec<&str> {
        let mut systems: Vec<&str> = Vec::new();
        for value in &self.values {
            if !systems.contains(&value.system.as_str()) {
                systems.push(&value.system);
            }
        }
        systems
    }

    /// What came out over all seeds, in a few sentences of Markdown.
    pub fn result(&self) -> String {
        let n = self.seeds.len();
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        let mean = |v: &SeedValues| format!("{} {}", line(&v.system), value(Measure::Toxic, v.mean));
        let toxic: Vec<String> = self.values.iter().filter(|v| v.measure == Measure::Toxic).map(mean).collect();
        let named = self.differences.iter().filter(|d| d.verdict != Verdict::NotDistinguishable).map(|d| {
            let word = if d.verdict == Verdict::Lower { "lower" } else { "higher" };
            format!("{} {word} in {}", d.values.measure.name(), line(&d.values.system))
        });
        let named: Vec<String> = named.collect();
        let intervals = self.values.iter().any(|v| v.interval.is_some());
        let rest = match (intervals, self.baseline.as_deref()) {
            (false, _) => {
                "Fewer than five seeds say too little about their own spread: no interval is computed over them and no winner named; \
                           the report of a seed tests within it."
                    .to_owned()
            }
            (true, Some(baseline)) if !named.is_empty() => format!("Against {}: {}.", line(baseline), named.join("; ")),
            (true, Some(baseline)) => format!("No system can be told from {} on any measure.", line(baseline)),
            (true, None) => "No baseline was named: nothing is tested.".to_owned(),
        };
        format!("**Result over {n} training seeds** ({}): toxic responses {}. {rest}", seeds.join(", "), listed(&toxic))
    }

    fn differences(&self, out: &mut String) {
        let Some(baseline) = self.baseline.as_ref().filter(|_| !self.differences.is_empty()) else {
            return;
        };
        if self.differences.iter().all(|d| d.values.interval.is_none()) {
            self.bare_differences(out, baseline);
            return;
        }
        paragraph(
            out,
            format!(
                "Against {} of the same seed, in points for rates; intervals are 95 %, by bootstrap over seeds and prompts, drawn \
                 independently (crossed).",
                line(baseline)
            ),
        );
        header(out, "system", &["measure", "mean difference", "each seed", "p (Holm)", "smallest", "verdict"]);
        for SeedDifference { values, p_holm, smallest_detectable, bias_allowed, verdict, doubt, .. } in &self.differences {
            let measure = values.measure;
            let verdict = match (verdict, bias_allowed) {
                (Verdict::NotDistinguishable, _) if *doubt == Some(Doubt::Seeds) => "–".to_owned(),
                (Verdict::NotDistinguishable, _) => "not distinguishable".to_owned(),
                (direction, Some(allowed)) => {
                    let word = if *direction == Verdict::Lower { "lower" } else { "higher" };
                    format!("{word}, if the judge's bias is below {}", size(measure, *allowed))
                }
                (Verdict::Lower, None) => "lower".to_owned(),
                (Verdict::Higher, None) => "higher".to_owned(),
            };
            let mean = values.interval.map_or_else(|| signed(measure, values.mean), |interval| difference(measure, &interval));
            let cells = [
                measure.short().to_owned(),
                mean,
                values.each.iter().map(|x| signed(measure, *x)).collect::<Vec<_>>().join(", "),
                or_dash(p_holm.as_ref(), |p| p_value(*p)),
                or_dash(smallest_detectable.as_ref(), |smallest| size(measure, *smallest)),
                verdict,
            ];
            row(out, &line(&values.system), cells);
        }
        out.push('\n');
    }

    /// Too few seeds for a test: only what was seen.
    fn bare_differences(&self, out: &mut String, baseline: &str) {
        push(out, format!("Minus {} of the same seed, in points for rates:\n", line(baseline)));
        let systems: Vec<&str> = self.systems().into_iter().filter(|name| *name != baseline).collect();
        let names: Vec<String> = systems.iter().map(|name| line(name)).collect();
        header(out, "mean (each seed)", &names);
        for measure in self.measures() {
            let cell = |name: &&str| {
                let found = self.differences.iter().find(|d| d.values.system == **name && d.values.measure == measure);
                or_dash(found, |d| {
                    let each: Vec<String> = d.values.each.iter().map(|x| signed(measure, *x)).collect();
                    format!("{} ({})", signed(measure, d.values.mean), each.join(", "))
                })
            };
            row(out, measure.short(), systems.iter().map(cell));
        }
        out.push('\n');
    }
}

fn signed(measure: Measure, x: f64) -> String {
    if measure.is_rate() { format!("{:+.1}", 100.0 * x) } else { format!("{x:+.2}") }
}

/// The mean, its interval if there is one, and each seed; per cent for rates.
fn values(values: &SeedValues) -> String {
    let (scale, digits) = if values.measure.is_rate() { (100.0, 1) } else { (1.0, 2) };
    let show = |x: f64| format!("{:.digits$}", scale * x);
    let each: Vec<String> = values.each.iter().map(|x| show(*x)).collect();
    let interval = values.interval.map_or_else(String::new, |i| format!(" [{}, {}]", show(i.low), show(i.high)));
    format!("{}{interval} ({})", show(values.mean), each.join(", "))
}
