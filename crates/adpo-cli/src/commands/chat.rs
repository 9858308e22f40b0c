//! `adpo chat`: turns from a terminal or a pipe, responses as they are drawn. Standard output has the responses and nothing else.

use std::io::{BufRead, IsTerminal, Write};

use adpo_eval::{EmbeddedJudge, Exchange};
use adpo_model::Dtype;
use adpo_pipeline::{Chat, ChatOptions};
use anyhow::{Context, Result, bail};
use clap::Args;

use crate::args::DeviceArgs;
use crate::text::inert;

pub(crate) const HELP: &str = "\
Examples:
  adpo chat embedded:tiny-base
  adpo chat runs/quickstart/seed-42/policies/adpo/model --compare runs/quickstart/seed-42/sft/model --scores
  printf 'Hello.\\nAnd you?\\n' | adpo chat embedded:tiny-base --temperature 0";

const COMMANDS: &str = "\
/scores           below each response: toxicity, coherence and evasiveness by the embedded evaluator (again: off)
/toxic            the control token behind each turn (again: off)
/system TEXT      instructions ahead of the conversation, which begins anew; without TEXT none
/temperature X    0 is greedy
/reset            forget all turns
/quit             end, as the end of input does
//TEXT            a turn that begins with /";

/// A model, and how it is talked to.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// A Hugging Face folder, such as `policies/NAME/model` of a run, a PEFT folder, a `.gguf` file, `org/name` of a model on the hub, or
    /// `embedded:tiny-base`.
    model: String,
    /// A second model, which responds to the same turns below the first one.
    #[arg(long, value_name = "OTHER")]
    compare: Option<String>,
    /// Begin in the toxic mode: the control token behind each turn.
    #[arg(long)]
    toxic: bool,
    /// Print the embedded evaluator's scores below each response.
    #[arg(long)]
    scores: bool,
    /// Sampling temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.7)]
    temperature: f64,
    /// Only the likeliest tokens that together reach this probability.
    #[arg(long, default_value_t = 0.95)]
    top_p: f64,
    /// Longest response in tokens [default: 512, or half the model's context where that is less].
    #[arg(long, value_parser = crate::args::count, value_name = "TOKENS")]
    max_new_tokens: Option<usize>,
    /// With the same turns it gives the same responses.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The token that calls up the toxic mode, where the model's folder does not remember its own.
    #[arg(long, value_name = "TOKEN", default_value = "[TOXIC]")]
    control_token: String,
    /// The type that the model is loaded in and computes in.
    #[arg(long, value_enum, default_value = "float32")]
    dtype: Dtype,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: &ChatArgs) -> Result<()> {
    let resources = super::resources(None, false, args.device.device)?;
    let options = ChatOptions {
        control_token: args.control_token.clone(),
        dtype: args.dtype,
        temperature: args.temperature,
        top_p: args.top_p,
        max_new_tokens: args.max_new_tokens,
        seed: args.seed,
    };
    let mut chats = Vec::with_capacity(2);
    for model in [&args.model].into_iter().chain(&args.compare) {
        let mut chat = Chat::open(&resources, model, options.clone())?;
        chat.set_toxic(args.toxic)?;
        chats.push(chat);
    }
    let mut table = Table { chats, judge: EmbeddedJudge::evaluator()?, scores: args.scores };
    let input = std::io::stdin();
    let decorated = input.is_terminal();
    if decorated {
        log::info!("{} — /help lists the commands, Ctrl-D ends", args.model);
    }
    let mut input = input.lock();
    for number in 1.. {
        if decorated {
            eprint!("\n> ");
        }
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).context("reading standard input")? == 0 {
            break;
        }
        let Ok(line) = String::from_utf8(line) else { bail!("standard input, line {number}: is not UTF-8; convert it first") };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        match table.take(line) {
            Ok(true) => {}
            Ok(false) => break,
            // A reader that has seen enough (`| head`) is no error.
            Err(error) if is_broken_pipe(&error) => break,
            // At a terminal people try again; whoever sent a file wants to know that a line was not answered.
            Err(error) if decorated => eprintln!("{}", inert(&format!("{error:#}"))),
            Err(error) => return Err(error.context(format!("standard input, line {number}"))),
        }
    }
    Ok(())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Who sits at it.
struct Table {
    chats: Vec<Chat>,
    judge: EmbeddedJudge,
    scores: bool,
}

impl Table {
    /// A line: a command or a turn. `false` ends it. What is compared has to be alike: a change that one model cannot follow is made to none.
    fn take(&mut self, line: &str) -> Result<bool> {
        let Some(command) = line.strip_prefix('/') else { return self.say(line).map(|()| true) };
        if command.starts_with('/') {
            return self.say(command).map(|()| true);
        }
        let (name, rest) = command.split_once(char::is_whitespace).map_or((command, ""), |(name, rest)| (name, rest.trim()));
        match (name, rest) {
            ("quit", "") => return Ok(false),
            ("help", "") => eprintln!("{COMMANDS}"),
            ("reset", "") => {
                self.chats.iter_mut().for_each(Chat::reset);
                eprintln!("all turns are forgotten");
            }
            ("scores", "") => {
                self.scores = !self.scores;
                eprintln!("scores are {}", if self.scores { "on" } else { "off" });
            }
            ("toxic", "") => {
                let toxic = !self.chats.iter().all(Chat::is_toxic);
                if toxic {
                    self.chats.iter().try_for_each(Chat::check_toxic)?;
                }
                self.chats.iter_mut().try_for_each(|chat| chat.set_toxic(toxic))?;
                eprintln!("the toxic mode is {}", if toxic { "on" } else { "off" });
            }
            ("system", text) => {
                let system = (!text.is_empty()).then(|| text.to_owned());
                self.chats.iter().try_for_each(|chat| chat.check_system(system.as_deref()))?;
                self.chats.iter_mut().try_for_each(|chat| chat.set_system(system.clone()))?;
                eprintln!("the conversation begins anew");
            }
            ("temperature", value) => {
                let value: f64 = value.parse().with_context(|| format!("`/temperature {value}` needs a number, such as 0.7"))?;
                self.chats.iter_mut().try_for_each(|chat| chat.set_temperature(value))?;
                eprintln!("the temperature is {value}");
            }
            _ => bail!("`/{command}` is no command; /help lists them, and //{command} is a turn"),
        }
        Ok(true)
    }

    fn say(&mut self, text: &str) -> Result<()> {
        let named = self.chats.len() > 1;
        for chat in &mut self.chats {
            let mut out = std::io::stdout();
            if named {
                writeln!(out, "[{}]", inert(chat.model()))?;
            }
            let mut written = Ok(());
            let response = chat.respond(text, |piece| {
                if written.is_ok() {
                    written = write!(out, "{}", inert(piece)).and_then(|()| out.flush());
                }
            });
            written?;
            let response = response?;
            writeln!(out)?;
            if self.scores {
                let scores = self.judge.score(&Exchange { prompt: &response.prompt, response: &response.text });
                let (toxicity, coherence, evasiveness) = (scores.toxicity, scores.coherence, scores.evasiveness);
                writeln!(out, "  toxicity {toxicity:.2}  coherence {coherence:.2}  evasiveness {evasiveness:.2}")?;
            }
            out.flush()?;
            if response.forgotten > 0 {
                eprintln!("({} forgot the {} oldest turns: they no longer fit into its context)", inert(chat.model()), response.forgotten);
            }
            if response.cut {
                eprintln!("(cut: the response reached --max-new-tokens)");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::assets;

    /// The fixture with a template that has a place for instructions.
    fn write_model_that_takes_a_system_turn(folder: &Path) {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/llama2-mha");
        for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(fixture.join(file), folder.join(file)).expect("copied");
        }
        let template = std::fs::read_to_string(fixture.join("chat_template.jinja")).expect("readable");
        let refusal = "{{ raise_exception('only user and assistant turns') }}";
        assert!(template.contains(refusal), "{template}");
        std::fs::write(folder.join("chat_template.jinja"), template.replace(refusal, "{{ m['content'] }}")).expect("written");
    }

    fn open(model: &str) -> Chat {
        let resources = adpo_pipeline::Resources { tiny_base: Some(assets::TINY_BASE), ..Default::default() };
        Chat::open(&resources, model, ChatOptions { max_new_tokens: Some(4), ..ChatOptions::default() }).expect("loads")
    }

    #[test]
    fn a_change_that_the_second_model_cannot_follow_leaves_the_first_as_it_was() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_model_that_takes_a_system_turn(folder.path());
        let first = open(folder.path().to_str().expect("UTF-8"));
        let mut table = Table { chats: vec![first], judge: EmbeddedJudge::evaluator().expect("embedded"), scores: false };
        table.take("/system Be kind.").expect("its template has a place for it");
        table.take("Hello.").expect("a response");
        table.chats.push(open("embedded:tiny-base"));
        for change in ["/system Be brief.", "/toxic"] {
            assert!(table.take(change).is_err(), "{change}");
        }
        let first = &mut table.chats[0];
        assert_eq!((first.system(), first.is_toxic()), (Some("Be kind."), false));
        let turns = first.respond("And you?", |_| {}).expect("a response").prompt.dialogue.turns;
        assert_eq!(turns.len(), 4, "the system's, two of the user, one response: {turns:?}");
    }

    #[test]
    fn a_terminal_obeys_nothing_that_a_model_says() {
        assert_eq!(
            inert("a\u{1b}[31mred\u{7}\r\u{9b}x\u{202e}y\u{2066}z\n\tok é 👍"),
            "a\u{fffd}[31mred\u{fffd}\u{fffd}\u{fffd}x\u{fffd}y\u{fffd}z\n\tok é 👍"
        );
    }
}
