//! `adpo chat` through a pipe.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{stderr, stdout, text};

const TINY: &str = "embedded:tiny-base";

fn chat(arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_adpo"))
        .arg("chat")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("adpo starts");
    // It may be gone before it has read everything.
    let _ = child.stdin.take().expect("is a pipe").write_all(input.as_ref());
    child.wait_with_output().expect("adpo ends")
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output).lines().map(str::to_owned).collect()
}

/// A model that knows the control token; its weights are noise.
fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/llama2-mha")
}

#[test]
fn every_line_of_a_pipe_is_a_turn_and_nothing_but_responses_comes_out() {
    let input = "My kids want a pet.\n\nAnd a small one?";
    let first = chat(&[TINY], input);
    let responses = lines(&first);
    assert_eq!((responses.len(), stderr(&first).as_str()), (2, ""));
    assert!(responses.iter().all(|response| !response.trim().is_empty()), "{responses:?}");
    assert_eq!(responses, lines(&chat(&[TINY], input)), "the same turns and seed are the same responses");
    assert_ne!(responses, lines(&chat(&[TINY, "--seed", "1"], input)));
    // History matters: the second turn alone is answered in another way.
    let greedy = lines(&chat(&[TINY, "--temperature", "0"], input));
    assert_ne!(greedy[1], lines(&chat(&[TINY], "/temperature 0\nAnd a small one?"))[0]);
    // And it is gone after /reset: greedy responses depend on the turns alone.
    let again = lines(&chat(&[TINY, "--temperature", "0"], format!("{input}\n/reset\nMy kids want a pet.\n/quit\nnever read\n")));
    assert_eq!(again, [greedy[0].clone(), greedy[1].clone(), greedy[0].clone()]);
}

#[test]
fn scores_stand_below_each_response_on_demand() {
    let responses = lines(&chat(&[TINY, "--temperature", "0"], "Hello.\n/scores\n/reset\nHello.\n"));
    assert_eq!((responses.len(), &responses[0]), (3, &responses[1]));
    let words: Vec<&str> = responses[2].split_whitespace().collect();
    assert_eq!([words[0], words[2], words[4]], ["toxicity", "coherence", "evasiveness"]);
    assert!([1, 3, 5].iter().all(|i| words[*i].parse::<f64>().is_ok_and(|score| (0.0..=1.0).contains(&score))), "{words:?}");
    assert_eq!(lines(&chat(&[TINY, "--temperature", "0", "--scores"], "Hello.\n")), responses[1..]);
}

#[test]
fn two_models_respond_under_their_names() {
    let folder = fixture();
    let responses = lines(&chat(&[TINY, "--compare", text(&folder), "--max-new-tokens", "5"], "Hello.\n"));
    assert_eq!(responses[0], format!("[{TINY}]"));
    assert!(responses.contains(&format!("[{}]", folder.display())), "{responses:?}");
}

#[test]
fn the_toxic_mode_needs_a_model_that_knows_the_token() {
    let output = chat(&[TINY, "--toxic"], "Hello.\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("has no token [TOXIC]"), "{}", stderr(&output));
    let folder = fixture();
    let greedy = [text(&folder), "--temperature", "0", "--max-new-tokens", "8"];
    let toggled = stdout(&chat(&greedy, "Hello.\n/reset\n/toxic\nHello.\n"));
    let toxic = stdout(&chat(&[&greedy[..], &["--toxic"]].concat(), "Hello.\n"));
    let plain = stdout(&chat(&greedy, "Hello.\n"));
    assert_ne!(plain, toxic);
    assert_eq!(toggled, plain + &toxic);
}

#[test]
fn the_oldest_turns_are_forgotten_where_the_context_ends_and_people_are_told() {
    let turn = "I went to the market and bought apples, pears, plums, bread, cheese and a very large melon for my old aunt.\n";
    let output = chat(&[TINY, "--max-new-tokens", "64"], turn.repeat(12));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("forgot the 2 oldest turns"), "{}", stderr(&output));
    let output = chat(&[TINY], turn.trim().repeat(40));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("line 1") && stderr(&output).contains("--max-new-tokens"), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_answered_is_told_with_its_line() {
    let cases: [(&[u8], &str); 5] = [
        (b"Hello.\n/colour blue\n", "line 2: `/colour blue` is no command"),
        (b"/temperature hot\n", "line 1: `/temperature hot`"),
        (b"/temperature -1\n", "must be 0 (greedy) or more"),
        (b"caf\xe9\n", "line 1: is not UTF-8"),
        (b"/system Be kind.\n", "only user and assistant turns"),
    ];
    for (input, told) in cases {
        let output = chat(&[TINY, "--max-new-tokens", "4"], input);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(stderr(&output).contains(told), "{told}: {}", stderr(&output));
    }
    assert_eq!(lines(&chat(&[TINY, "--max-new-tokens", "4"], "//colour blue\n")).len(), 1);
    for (option, value) in [("--temperature", "-1"), ("--top-p", "0"), ("--max-new-tokens", "0"), ("--max-new-tokens", "512")] {
        let output = chat(&[TINY, option, value], "Hello.\n");
        assert_ne!(output.status.code(), Some(0), "{option} {value}");
    }
}
