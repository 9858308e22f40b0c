//! Values that a command line puts into a recipe: `--set preference.train.learning_rate=5e-6`.
//!
//! A key is written in full, or as its last words where these are in one section only. Several values make a sweep: one policy for each, all of
//! them trained on the same triples and put side by side in one report.

use std::str::FromStr;

use serde_json::Value as Json;
use toml::{Table, Value};

use super::Recipe;

/// One `KEY=VALUE` or, for a sweep, `KEY=VALUE,VALUE`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    key: String,
    /// Each as it was written, by which a sweep names its policies, and as it was understood.
    values: Vec<(String, Value)>,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("has no `=`; write KEY=VALUE, such as preference.train.learning_rate=5e-6")?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || value.is_empty() {
            return Err("write KEY=VALUE, such as preference.train.learning_rate=5e-6".into());
        }
        // A list in brackets is one value; commas without brackets stand between the values of a sweep.
        let values = match parsed(value) {
            Some(one) => vec![(value.to_owned(), one)],
            None => value.split(',').map(str::trim).map(|text| (text.to_owned(), parsed(text).unwrap_or_else(|| text.into()))).collect(),
        };
        Ok(Self { key: key.to_owned(), values })
    }
}

/// A value as TOML has it: a number, a boolean, a string in quotes, a list or an inline table.
fn parsed(value: &str) -> Option<Value> {
    toml::from_str::<Table>(&format!("value = {value}")).ok()?.remove("value")
}

/// Where a key leads: the names of tables, and behind `policies` a policy's number.
type Path = Vec<String>;

/// Puts the values into a recipe's table, in their order.
pub(crate) fn apply(mut table: Table, overrides: &[Override]) -> Result<Table, String> {
    for one in overrides {
        // What is left out of the file is there with its default, so that its key can be found.
        let recipe: Recipe = Value::Table(table.clone()).try_into().map_err(|error: toml::de::Error| error.to_string())?;
        let whole = serde_json::to_value(&recipe).map_err(|error| error.to_string())?;
        let paths = resolve(&one.key, &whole)?;
        match one.values.as_slice() {
            [(_, value)] => paths.iter().try_for_each(|path| put(&mut table, path, value.clone()))?,
            values => sweep(&mut table, &one.key, &paths, values)?,
        }
    }
    Ok(table)
}

/// The places that a key means.
fn resolve(key: &str, whole: &Json) -> Result<Vec<Path>, String> {
    let words: Path = key.split('.').map(str::to_owned).collect();
    if let Some(of_policy) = key.strip_prefix("policies.") {
        let policies = whole["policies"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<&str> = policies.iter().filter_map(|policy| policy["name"].as_str()).collect();
        // A name may have points in it.
        let rest = |name: &&str| of_policy.strip_prefix(*name).and_then(|rest| rest.strip_prefix('.'));
        let (number, rest) = names
            .iter()
            .enumerate()
            .find_map(|(number, name)| Some((number, rest(name)?)))
            .ok_or_else(|| format!("`--set {key}`: write policies.NAME.KEY; the recipe's policies are {}", names.join(", ")))?;
        let words: Path = rest.split('.').map(str::to_owned).collect();
        let mut at = vec!["policies".to_owned(), number.to_string()];
        let mut found = Vec::new();
        find(&policies[number], &words, &mut at, &mut found);
        // Training options of its own are not there yet.
        return Ok(if found.len() == 1 { found } else { vec![[at, words].concat()] });
    }
    if whole.get(&words[0]).is_some() || SECTIONS.contains(&words[0].as_str()) {
        return Ok(vec![words]);
    }
    let mut found = Vec::new();
    find(whole, &words, &mut Vec::new(), &mut found);
    // The objectives of all policies are one place: a value is for all of them.
    let sections = found.iter().map(|path: &Path| &path[0]).collect::<std::collections::BTreeSet<_>>().len();
    if found.is_empty() {
        return Err(format!("`--set {key}`: no section of this recipe has such a key; write it in full, such as preference.train.{key}"));
    }
    if found.len() > 1 && (sections > 1 || found[0][0] != "policies") {
        let full: Vec<String> = found.iter().map(|path| path.join(".")).collect();
        return Err(format!("`--set {key}` may mean {}; write one of them", full.join(" or ")));
    }
    Ok(found)
}

/// Sections that a recipe may lack.
const SECTIONS: [&str; 4] = ["sft", "sample", "preference", "evaluate"];

/// All paths below `value` that end with these words.
fn find(value: &Json, words: &[String], at: &mut Path, found: &mut Vec<Path>) {
    let mut below = |name: String, value: &Json| {
        at.push(name);
        if at.ends_with(words) {
            found.push(at.clone());
        }
        find(value, words, at, found);
        at.pop();
    };
    match value {
        Json::Object(fields) => fields.iter().for_each(|(name, value)| below(name.clone(), value)),
        Json::Array(items) if items.iter().all(Json::is_object) => {
            items.iter().enumerate().for_each(|(number, value)| below(number.to_string(), value));
        }
        _ => {}
    }
}

/// Writes a value, with the tables that lead to it.
fn put(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    let problem = |name: &str| format!("`{}`: `{name}` is no table", path.join("."));
    let (last, tables) = path.split_last().ok_or("an empty key")?;
    let Some((first, rest)) = tables.split_first() else {
        table.insert(last.clone(), value);
        return Ok(());
    };
    let mut place = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    for name in rest {
        place = match place {
            Value::Array(items) => name.parse::<usize>().ok().and_then(|number| items.get_mut(number)).ok_or_else(|| problem(name))?,
            Value::Table(table) => table.entry(name.clone()).or_insert_with(|| Value::Table(Table::new())),
            _ => return Err(problem(name)),
        };
    }
    place.as_table_mut().ok_or_else(|| problem(tables.last().map_or("", String::as_str)))?.insert(last.clone(), value);
    Ok(())
}

/// Replaces each policy that a key is for by one policy a value.
fn sweep(table: &mut Table, key: &str, paths: &[Path], values: &[(String, Value)]) -> Result<(), String> {
    let policies = match table.remove("policies") {
        Some(Value::Array(policies)) => policies,
        _ => Vec::new(),
    };
    // Which policies are to have the key, and where in them.
    let places = paths.iter().map(|path| match path.as_slice() {
        [section, number, option @ ..] if section == "policies" => Ok((number.parse().ok(), option.to_vec())),
        // What all policies share becomes an option of each.
        [preference, train, option] if preference == "preference" && train == "train" => Ok((None, vec![train.clone(), option.clone()])),
        _ => Err(format!(
            "`--set {key}` has several values, and a sweep is over options of policies (`[[policies]]`, `preference.train`), which share \
             all stages before them; give one value (a list stands in brackets), or run the recipe once for each"
        )),
    });
    let places = places.collect::<Result<Vec<(Option<usize>, Path)>, String>>()?;
    let mut swept = Vec::new();
    for (number, policy) in policies.into_iter().enumerate() {
        let Some((_, option)) = places.iter().find(|(of, _)| of.is_none_or(|of| of == number)) else {
            swept.push(policy);
            continue;
        };
        let policy = policy.as_table().ok_or("`policies` is no list of tables")?;
        let name = policy.get("name").and_then(Value::as_str).unwrap_or_default();
        let mut names = Vec::new();
        for (text, value) in values {
            let mut policy = policy.clone();
            names.push(format!("{name}-{}-{text}", option.last().map_or("", String::as_str)));
            policy.insert("name".into(), names.last().cloned().unwrap_or_default().into());
            put(&mut policy, option, value.clone())?;
            swept.push(Value::Table(policy));
        }
        audit(table, name, &names);
    }
    table.insert("policies".into(), Value::Array(swept));
    Ok(())
}

/// An audit that was to ask a policy asks those that took its place.
fn audit(table: &mut Table, policy: &str, names: &[String]) {
    let audit = table.get_mut("evaluate").and_then(|evaluate| evaluate.get_mut("audit"));
    if let Some(Value::Array(asked)) = audit
        && let Some(place) = asked.iter().position(|name| name.as_str() == Some(policy))
    {
        asked.splice(place..=place, names.iter().cloned().map(Value::String));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
        name = "sweep"
        seeds = [1]
        base = { checkpoint = "embedded:tiny-base" }
        encoding = { max_length = 256 }
        preference = { sources = [{ id = "own.jsonl", buckets = [0] }], train = { num_train_epochs = 1 } }
        policies = [
            { name = "adpo", objective.adpo = { beta = 0.1 } },
            { name = "dpo", objective.dpo = { beta = 0.1 } },
            { name = "simpo", objective.simpo = { beta = 2.0, gamma = 0.5 } },
        ]
        evaluate = { sources = [{ id = "own.jsonl", buckets = [5] }], judge = "embedded", audit = ["base", "adpo"] }
    "#;

    fn with(overrides: &[&str]) -> Result<Recipe, String> {
        let overrides = overrides.iter().map(|one| one.parse()).collect::<Result<Vec<Override>, _>>()?;
        let recipe = Recipe::from_toml(RECIPE, "RECIPE").expect("a recipe");
        recipe.with_overrides(&overrides).map_err(|error| error.to_string())
    }

    fn names(recipe: &Recipe) -> Vec<&str> {
        recipe.policies.iter().map(|policy| policy.name.as_str()).collect()
    }

    #[test]
    fn a_value_takes_the_place_of_the_recipes_in_full_or_by_its_last_words() {
        let recipe =
            with(&["preference.train.learning_rate=5e-6", "evaluate.temperature=0.7", "max_length=128", "seeds=[2,3]"]).expect("fits");
        assert_eq!(recipe.preference.expect("there").train.learning_rate, 5e-6);
        assert_eq!(recipe.evaluate.expect("there").temperature, 0.7);
        assert_eq!((recipe.encoding.max_length, recipe.seeds), (128, vec![2, 3]));
    }

    #[test]
    fn a_value_may_be_for_one_policy_or_for_all_that_have_it() {
        let beta = |recipe: &Recipe| -> Vec<f64> {
            let objectives = recipe.policies.iter().map(|policy| serde_json::to_value(&policy.objective).expect("JSON"));
            let options = objectives.map(|objective| objective.as_object().expect("a table").values().next().cloned().expect("options"));
            options.map(|options| options["beta"].as_f64().expect("a number")).collect()
        };
        assert_eq!(beta(&with(&["policies.dpo.beta=0.5"]).expect("fits")), [0.1, 0.5, 2.0]);
        assert_eq!(beta(&with(&["beta=0.5"]).expect("fits")), [0.5, 0.5, 0.5]);
    }

    #[test]
    fn several_values_make_a_policy_each() {
        let recipe = with(&["policies.adpo.beta=0.1,0.30", "policies.dpo.train.learning_rate=1e-6,2e-6"]).expect("fits");
        assert_eq!(names(&recipe), ["adpo-beta-0.1", "adpo-beta-0.30", "dpo-learning_rate-1e-6", "dpo-learning_rate-2e-6", "simpo"]);
        assert_eq!(recipe.evaluate.expect("there").audit.expect("there"), ["base", "adpo-beta-0.1", "adpo-beta-0.30"]);
    }

    #[test]
    fn a_sweep_over_what_all_policies_share_is_an_option_of_each() {
        let recipe = with(&["learning_rate=1e-6,2e-6", "policies.dpo-learning_rate-2e-6.train.num_train_epochs=3"]).expect("fits");
        assert_eq!(recipe.policies.len(), 6);
        let shared = &recipe.preference.as_ref().expect("there").train;
        let rates: Vec<f64> = recipe.policies.iter().map(|p| p.train_options(shared).expect("fits").learning_rate).collect();
        assert_eq!(rates, [1e-6, 2e-6, 1e-6, 2e-6, 1e-6, 2e-6]);
        assert_eq!(recipe.policies[3].train_options(shared).expect("fits").num_train_epochs, 3);
    }

    #[test]
    fn a_key_that_leads_nowhere_or_to_several_places_is_refused() {
        for (one, problem) in [
            ("beta", "KEY=VALUE"),
            ("=1", "KEY=VALUE"),
            ("betta=1", "no section of this recipe has such a key"),
            ("preference.train.learning_rat=1", "learning_rat"),
            ("id=x", "may mean evaluate.sources.0.id or preference.sources.0.id"),
            ("policies.ppo.beta=1", "the recipe's policies are adpo, dpo, simpo"),
            ("max_length=1,2", "give one value"),
            ("learning_rate=fast", "learning_rate"),
            ("policies.dpo.train.learning_rate=fast", "policy `dpo`, `train`"),
            ("policies.dpo.train.lr=1", "lr"),
            ("seeds.0.x=1", "seeds"),
            ("name.x=1", "is no table"),
        ] {
            let error = with(&[one]).expect_err(one);
            assert!(error.contains(problem), "{one}: {error}");
        }
    }
}
