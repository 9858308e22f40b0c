//! A text classifier as a judge of toxicity.

use std::sync::LazyLock;

use adpo_data::{Dialogue, Prompt, Role};
use adpo_eval::{ClassifierJudge, ClassifierOptions, EmbeddedJudge, Exchange, Judge, Judgement, RequestLimits};
use serde_json::{Value, json};

use crate::judge::limits;
use crate::server::{Request, Server, ok, status};

fn options(server: &Server) -> ClassifierOptions {
    ClassifierOptions {
        urls: vec![server.url("/predict")],
        model: "test-classifier".to_owned(),
        toxic_labels: vec!["toxic".to_owned(), "threat".to_owned()],
        threshold: 0.7,
        context: false,
        api_key_env: None,
        limits: limits(),
    }
}

fn judge(options: &ClassifierOptions) -> ClassifierJudge {
    ClassifierJudge::open(options, EmbeddedJudge::evaluator().expect("its weights"), None).expect("the options are fine")
}

static PROMPT: LazyLock<Prompt> =
    LazyLock::new(|| Dialogue::from_user("Hi.").with(Role::Assistant, "Hello.").with(Role::User, "Any idea for a quick dinner?").into());

fn exchange(response: &str) -> Exchange<'_> {
    Exchange { prompt: &PROMPT, response }
}

fn labels(toxic: f64, threat: f64) -> Value {
    json!([{"label": "toxic", "score": toxic}, {"label": "threat", "score": threat}, {"label": "neutral", "score": 0.5}])
}

#[test]
fn toxicity_is_the_classifiers_and_the_rest_the_embedded_judges() {
    let server = Server::start(|request| ok(json!([labels(0.2, if request.body["inputs"] == "Pasta with peas." { 0.9 } else { 0.1 })])));
    let judge = judge(&options(&server));
    let exchanges = [exchange("Pasta with peas."), exchange("I can't help with that.")];
    let judged = judge.judge(&exchanges);
    let embedded = EmbeddedJudge::evaluator().expect("its weights");
    for ((judgement, exchange), toxicity) in judged.iter().zip(&exchanges).zip([0.9, 0.2]) {
        let (scores, rest) = (judgement.scores().expect("scores"), embedded.score(exchange));
        assert_eq!((scores.toxicity, scores.heads.abuse, scores.heads.context), (toxicity, toxicity, 0.0));
        assert_eq!((scores.evasiveness, scores.coherence), (rest.evasiveness, rest.coherence));
    }
    assert_eq!(server.requests()[0].path, "/predict");
    assert!(judge.name().contains("test-classifier") && judge.name().contains("embedded"), "{}", judge.name());
    assert_eq!((judge.thresholds().toxicity, judge.thresholds().evasiveness), (0.7, embedded.thresholds().evasiveness));
    // It shares rows with the embedded judge, and borrows none of its figures on toxicity.
    assert_eq!(judge.training_rows(), embedded.training_rows());
    assert!(!judge.agreement().is_empty() && judge.agreement().iter().all(|figure| !figure.measure.contains("toxicity")));
}

#[test]
fn a_model_that_takes_a_context_gets_the_users_last_turn() {
    let server = Server::start(|_| ok(labels(0.8, 0.1)));
    let options = ClassifierOptions { context: true, ..options(&server) };
    let judged = judge(&options).judge(&[exchange("Pasta.")]);
    assert_eq!(server.requests()[0].body, json!({"inputs": {"text": "Any idea for a quick dinner?", "text_pair": "Pasta."}}));
    assert_eq!(judged[0].scores().map(|scores| (scores.heads.context, scores.heads.abuse)), Some((0.8, 0.0)));
}

#[test]
fn labels_that_do_not_say_whether_a_text_is_toxic_are_no_score() {
    let response = |request: &Request| match request.body["inputs"].as_str() {
        Some("only the top label") => ok(json!([[{"label": "neutral", "score": 0.98}]])),
        Some("a label twice") => {
            ok(json!([labels(0.1, 0.1).as_array().cloned().unwrap_or_default(), vec![json!({"label": "toxic", "score": 0.9})]].concat()))
        }
        Some("off the scale") => ok(labels(0.1, 1.5)),
        Some("no labels") => ok(json!({"error": "loading"})),
        _ => status(500, ""),
    };
    let server = Server::start(response);
    let texts = ["only the top label", "a label twice", "off the scale", "no labels", "broken"];
    let judged = judge(&options(&server)).judge(&texts.map(exchange));
    let states: Vec<&str> = judged.iter().map(Judgement::state).collect();
    assert_eq!(states, ["unparsed", "unparsed", "unparsed", "api_error", "api_error"]);
}

#[test]
fn responses_are_kept_and_options_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("classifier.jsonl");
    let server = Server::start(|_| ok(labels(0.8, 0.1)));
    let open = |options: &ClassifierOptions| ClassifierJudge::open(options, EmbeddedJudge::evaluator().expect("its weights"), Some(&cache));
    for _ in 0..2 {
        open(&options(&server)).expect("the options are fine").judge(&[exchange("Pasta."), exchange("Rice.")]);
    }
    assert_eq!(server.count(), 2);
    for wrong in [
        ClassifierOptions { toxic_labels: Vec::new(), ..options(&server) },
        ClassifierOptions { threshold: 1.5, ..options(&server) },
        ClassifierOptions { limits: RequestLimits { attempts: 0, ..limits() }, ..options(&server) },
    ] {
        assert!(open(&wrong).is_err());
    }
}
