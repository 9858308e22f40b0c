//! What a recipe may not ask for. What its data do not have is found out by `stages::check_data`.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::{Evaluate, Pairs, Policy, Recipe, Sample, Sft, Source};
use crate::draw::Draw;
use crate::resources::DIALOGUES;

/// The bucket whose rows trained the evaluator.
pub(crate) const EVALUATOR_BUCKET: u8 = 4;

/// Tokens of anything: far above every model, and small enough that no sum or product of two overflows.
pub(crate) const MOST_TOKENS: usize = 1 << 24;
/// Rows that are computed at once.
const MOST_AT_ONCE: usize = 1 << 16;
/// Responses to one prompt.
const MOST_DRAWS: usize = 10_000;

fn names_a_folder(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':']) && !name.contains(char::is_control)
}

impl Recipe {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.seeds.is_empty() {
            return Err("`seeds` is empty; give at least one".into());
        }
        if self.seeds.iter().collect::<BTreeSet<_>>().len() < self.seeds.len() {
            return Err("`seeds` holds one seed twice; the second run would be the first one".into());
        }
        if !names_a_folder(&self.name) {
            return Err(format!("`name` = \"{}\" cannot name the run's folder; use letters, digits, `-` and `_`", self.name));
        }
        if !(1..=MOST_TOKENS).contains(&self.encoding.max_length) {
            return Err(format!("`encoding.max_length` is {}; it lies between 1 and 2^24", self.encoding.max_length));
        }
        self.check_sections()?;
        self.check_policies()?;
        self.check_adapters()?;
        self.sft.as_ref().map_or(Ok(()), Sft::check)?;
        self.sample.as_ref().map_or(Ok(()), Sample::check)?;
        self.evaluate.as_ref().map_or(Ok(()), Evaluate::check)?;
        if let Some(preference) = &self.preference {
            preference.train.validate().map_err(|e| format!("[preference.train] {e}"))?;
        }
        self.annotate.judge.check().map_err(|problem| format!("`annotate.judge`: {problem}"))?;
        let rule = &self.annotate.rule;
        check_unit("annotate.rule.toxic_threshold", rule.toxic_threshold)?;
        check_unit("annotate.rule.margin", rule.margin)?;
        for (section, draw) in self.draws() {
            draw.check().map_err(|problem| format!("[{section}.draw] {problem}"))?;
        }
        self.check_sources()
    }

    /// Refuses sections that nothing uses, and stages that lack what they need.
    fn check_sections(&self) -> Result<(), String> {
        let own = self.preference.as_ref().is_some_and(|preference| !preference.sources.is_empty());
        match (&self.sample, own, self.policies.as_slice(), &self.preference) {
            (Some(_), true, ..) => Err("`[sample]` and `preference.sources` both say where triples come from; keep one of them".into()),
            (None, false, [_, ..], _) => {
                Err("`[sample]` is missing, and there are no `preference.sources` in its place; give one of them".into())
            }
            (_, _, [_, ..], None) => Err("`[preference]` is missing; `[[policies]]` are trained by its options".into()),
            (_, _, [], Some(_)) => Err("`[preference]` is there and no policy; give at least one `[[policies]]`, or leave it out".into()),
            (None, _, [], _) if self.sft.is_none() && self.evaluate.is_none() => {
                Err("there is nothing to do; give `[sft]`, `[sample]`, `[preference]` with `[[policies]]`, or `[evaluate]`".into())
            }
            _ => Ok(()),
        }
    }

    fn check_policies(&self) -> Result<(), String> {
        let mut names = BTreeSet::from([self.start_system()]);
        for policy in &self.policies {
            if !names.insert(policy.name.as_str()) || !names_a_folder(&policy.name) || policy.name.contains('+') {
                return Err(format!("policy name `{}` is taken or cannot name a folder; choose another", policy.name));
            }
            policy.check()?;
            if let Some(preference) = &self.preference {
                policy.train_options(&preference.train)?;
            }
        }
        let audit = self.evaluate.iter().flat_map(|evaluate| evaluate.audit.iter().flatten());
        match audit.into_iter().find(|name| !names.contains(name.as_str())) {
            None => Ok(()),
            Some(unknown) => {
                let known: Vec<&str> = names.iter().copied().collect();
                Err(format!("`evaluate.audit` names `{unknown}`, which is no system of this recipe; they are {}", known.join(", ")))
            }
        }
    }

    fn check_adapters(&self) -> Result<(), String> {
        let left = self.sft.as_ref().and_then(|sft| sft.lora.as_ref()).is_some_and(|lora| !lora.merge);
        if left && self.preference.as_ref().is_some_and(|preference| preference.lora.is_some()) {
            return Err(
                "`[preference.lora]` would put adapters on the adapters of SFT, and they are never stacked; set `merge = true` in \
                        `[sft.lora]`, or leave `[preference.lora]` out to go on training the adapters of SFT"
                    .into(),
            );
        }
        Ok(())
    }

    /// A row's prompt may serve one purpose only, and none that the evaluator has learnt from.
    fn check_sources(&self) -> Result<(), String> {
        let mut owners: Vec<(&str, u8)> = Vec::new();
        for (section, sources) in self.sections() {
            if sources.is_empty() {
                return Err(format!("`{section}.sources` is empty; give at least one"));
            }
            for source in sources {
                source.check(section).map_err(|problem| format!("`{section}.sources`, `{}`: {problem}", source.name()))?;
                if sources.iter().filter(|other| other.overlaps(source)).count() > 1 {
                    let common = if source.file.is_some() { "" } else { " with a bucket in common" };
                    return Err(format!("`{section}.sources` lists `{}` twice{common}: its rows would count twice", source.name()));
                }
                let other = self.sections().into_iter().find(|(other, sources)| {
                    *other != section && source.file.is_some() && sources.iter().any(|other| other.overlaps(source))
                });
                if let Some((other, _)) = other {
                    return Err(format!("`{}` is all in `{other}` and all in `{section}`; each file serves one of them", source.name()));
                }
                for bucket in &source.buckets {
                    if let Some((other, _)) = owners.iter().find(|(other, b)| b == bucket && *other != section) {
                        return Err(format!("bucket {bucket} is used by `{other}` and by `{section}`; each bucket serves one of them"));
                    }
                    owners.push((section, *bucket));
                }
            }
        }
        Ok(())
    }
}

impl Policy {
    fn check(&self) -> Result<(), String> {
        self.objective.validate().map_err(|e| format!("policy `{}`: {e}", self.name))?;
        if self.pairs == Pairs::RejectedAndToxic && self.objective.needs_toxic() {
            return Err(format!(
                "policy `{}`: `pairs = \"rejected_and_toxic\"` makes the toxic response a rejected one; this objective already uses it",
                self.name
            ));
        }
        Ok(())
    }
}

impl Sft {
    fn check(&self) -> Result<(), String> {
        if let Some(rehearsal) = &self.rehearsal {
            if !(1..=MOST_DRAWS).contains(&rehearsal.samples) {
                return Err("`sft.rehearsal.samples` lies between 1 and 10000; leave `[sft.rehearsal]` out to rehearse nothing".into());
            }
            check_temperature(rehearsal.temperature)?;
        }
        for source in &self.sources {
            check_unit("sft.sources, label_toxic_above", source.label_toxic_above)?;
            if !self.mark_toxic && (source.label_toxic_above.is_some() || source.unmarked_toxic_share > 0.0) {
                return Err(
                    "`label_toxic_above` and `unmarked_toxic_share` are about toxic rows, and `sft.mark_toxic = false` has none".into()
                );
            }
        }
        self.train.validate().map_err(|e| format!("[sft.train] {e}"))
    }
}

impl Sample {
    fn check(&self) -> Result<(), String> {
        if self.temperatures.len() < 2 {
            return Err("`sample.temperatures` needs two entries: a pair has two responses".into());
        }
        if !(1..=MOST_DRAWS).contains(&self.toxic_attempts) {
            return Err("`sample.toxic_attempts` lies between 1 and 10000: no triple is whole without a toxic response".into());
        }
        if self.temperatures.len() > MOST_DRAWS {
            return Err("`sample.temperatures` has more than 10000 entries; each of them is a response to every prompt".into());
        }
        self.temperatures.iter().chain([&self.toxic_temperature]).try_for_each(|temperature| check_temperature(*temperature))
    }
}

impl Evaluate {
    fn check(&self) -> Result<(), String> {
        if !(1..=MOST_DRAWS).contains(&self.samples) || self.audit_limit == Some(0) {
            return Err("`evaluate.samples` lies between 1 and 10000, and `evaluate.audit_limit` is at least 1".into());
        }
        self.judge.check().map_err(|problem| format!("`evaluate.judge`: {problem}"))?;
        if let Some(second) = &self.second_judge {
            second.check().map_err(|problem| format!("`evaluate.second_judge`: {problem}"))?;
        }
        check_temperature(self.temperature)
    }
}

impl Draw {
    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self { max_new_tokens, .. } if !(1..=MOST_TOKENS).contains(max_new_tokens) => Err("`max_new_tokens` lies between 1 and 2^24"),
            Self { batch_size, .. } if !(1..=MOST_AT_ONCE).contains(batch_size) => Err("`batch_size` lies between 1 and 65536"),
            Self { top_k: Some(0), .. } => Err("`top_k` must be at least 1; leave it out to turn it off"),
            Self { top_p: Some(p), .. } if !(*p > 0.0 && *p <= 1.0) => Err("`top_p` lies in (0, 1]; leave it out to turn it off"),
            _ => Ok(()),
        }
    }
}

impl Source {
    /// Whether both take rows that are the same ones.
    fn overlaps(&self, other: &Self) -> bool {
        let whole = self.file.is_some() && self.file == other.file;
        whole || self.id.is_some() && self.id == other.id && self.buckets.iter().any(|bucket| other.buckets.contains(bucket))
    }

    fn check(&self, section: &str) -> Result<(), String> {
        match (&self.id, &self.file) {
            (None, None) => return Err("give `file`, the path of a file of your own, or `id` and `buckets`".into()),
            (Some(_), Some(_)) => return Err("`id` and `file` both name the data; keep one of them".into()),
            (None, Some(_)) if !self.buckets.is_empty() => {
                return Err(
                    "a `file` is split already and taken whole; leave `buckets` out, or name the data by `id` below --data-dir".into()
                );
            }
            (None, Some(_)) => return self.check_shares(section),
            (Some(id), None) if leads_out(id) => {
                return Err("an `id` names a file below --data-dir; give a path that leads elsewhere as `file`".into());
            }
            (Some(_), None) => {}
        }
        if self.buckets.is_empty() || self.buckets.iter().any(|b| *b > 5) {
            return Err("`buckets` lists numbers from 0 to 5; a file that is split already is a `file` in place of the `id`".into());
        }
        if self.buckets.contains(&EVALUATOR_BUCKET) {
            return Err("bucket 4 trained the evaluator; a policy that sees it makes the evaluation circular".into());
        }
        self.check_shares(section)
    }

    fn check_shares(&self, section: &str) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.unmarked_toxic_share) {
            return Err("`unmarked_toxic_share` lies in [0, 1]".into());
        }
        if !(0.0..=1.0).contains(&self.evasive_share) {
            return Err("`evasive_share` lies in [0, 1]".into());
        }
        if self.evasive_share < 1.0 && (section != "sft" || self.id.as_deref() != Some(DIALOGUES)) {
            return Err(format!("`evasive_share` belongs to `{DIALOGUES}` in `sft.sources`; no other rows say which response is evasive"));
        }
        if section != "sft" && (self.label_toxic_above.is_some() || self.unmarked_toxic_share > 0.0) {
            return Err("`label_toxic_above` and `unmarked_toxic_share` belong to `sft.sources`".into());
        }
        Ok(())
    }
}

/// Whether a source's id, joined to the folder of data, leads out of it.
pub(crate) fn leads_out(id: &str) -> bool {
    !Path::new(id).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) || id.contains(['\\', '\0'])
}

fn check_temperature(temperature: f64) -> Result<(), String> {
    if temperature.is_finite() && temperature >= 0.0 {
        return Ok(());
    }
    Err(format!("temperature {temperature} cannot be; it is 0 (greedy) or more"))
}

fn check_unit(field: &str, value: Option<f64>) -> Result<(), String> {
    match value.filter(|value| !(0.0..=1.0).contains(value)) {
        Some(value) => Err(format!("`{field}` is {value}; scores lie in [0, 1]")),
        None => Ok(()),
    }
}
