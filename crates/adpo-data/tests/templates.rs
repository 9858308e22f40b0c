//! Chat templates: what they render as in transformers, and what a hostile one may use up.
#![cfg(feature = "tokenizers")]

mod common;

use adpo_data::{ChatTokenizer, Dialogue, Role};
use common::fixture;

/// The fixture's tokenizer with another template.
fn with_template(template: &str) -> Result<ChatTokenizer, String> {
    let read = |name: &str| std::fs::read_to_string(fixture("llama2-mha").join(name)).expect("is there");
    ChatTokenizer::from_parts(&read("tokenizer.json"), &read("tokenizer_config.json"), Some(template)).map_err(|e| e.to_string())
}

fn rendered(template: &str) -> Result<String, String> {
    let dialogue = Dialogue::from_user("Hi.").with(Role::Assistant, "Hello!");
    with_template(template)?.render(&dialogue, false).map_err(|e| e.to_string())
}

#[test]
fn line_ends_are_those_that_jinja_makes_of_them() {
    let text = "{% for m in messages %}\r\n<{{ m.role }}>\r{{ m.content }}\n{% endfor %}";
    assert_eq!(rendered(text), rendered(&text.replace("\r\n", "\n").replace('\r', "\n")));
    assert_eq!(rendered(text).expect("renders"), "<user>\nHi.\n<assistant>\nHello!\n");
    // What a template says itself stays.
    assert_eq!(rendered("{{ 'a\\r\\nb' }}").expect("renders"), "a\r\nb");
}

#[test]
fn what_marks_the_trained_part_renders_as_its_body() {
    let text = "{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration %}\n|{% endfor %}";
    assert_eq!(rendered(text).expect("renders"), "Hi.|Hello!|");
    // Its own scope, as in transformers, and nothing that only looks like it.
    assert_eq!(rendered("{% set a = 1 %}{% generation %}{% set a = 2 %}{% endgeneration %}{{ a }}").expect("renders"), "1");
    assert_eq!(rendered("{{ '{% generation %}' }}").expect("renders"), "{% generation %}");
    assert_eq!(rendered("{% raw %}{% generation %}{% endraw %}").expect("renders"), "{% generation %}");
}

#[test]
fn a_date_is_always_the_same_one() {
    assert_eq!(rendered("{{ strftime_now('%d %b %Y, %A %H:%M') }}").expect("renders"), "26 Jul 2024, Friday 00:00");
    let asked = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}none{% endif %}";
    assert_eq!(rendered(asked).expect("renders"), "none");
}

#[test]
fn nothing_is_not_iterable_and_json_is_pythons() {
    assert_eq!(rendered("{% if tools is iterable and tools | length > 0 %}T{% endif %}x").expect("renders"), "x");
    assert_eq!(rendered("{{ messages is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }}").expect("renders"), "True True False");
    let text = r#"{{ messages[0] | tojson }} {{ {'b': [1, 2.5, none, true], 'a': '<é">'} | tojson }}"#;
    assert_eq!(rendered(text).expect("renders"), r#"{"role": "user", "content": "Hi."} {"b": [1, 2.5, null, true], "a": "<é\">"}"#);
    assert_eq!(rendered("{{ {'a': [1, {}]} | tojson(indent=2) }}").expect("renders"), "{\n  \"a\": [\n    1,\n    {}\n  ]\n}");
}

#[test]
fn methods_are_pythons_and_macros_may_ask_for_their_caller() {
    let text = "{{ 'aXbXc'.rsplit('X', 1) }} {{ 'aXb'.rsplit('X') }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('x') }}";
    assert_eq!(rendered(text).expect("renders"), "['aXb', 'c'] ['a', 'b'] bc abc");
    let text = "{% macro f(a) %}<{{ a }}{{ caller() if caller }}{% if not caller %}!{% endif %}>{% endmacro %}{{ f(1) }}{% call f(7) %}c{% endcall %}";
    assert_eq!(rendered(text).expect("renders"), "<1!><7c>");
}

#[test]
fn no_template_takes_the_process_with_it() {
    let deep = |part: &str, times: usize, last: &str| format!("{{{{ {}{last} }}}}", part.repeat(times));
    let grown = |body: &str| format!("{{% set ns = namespace(x=1) %}}{{% for i in range(90000) %}}{{% set ns.x = {body} %}}{{% endfor %}}");
    for (name, source) in [
        ("a long row of not", deep("not ", 100_000, "1")),
        ("a shorter one", deep("not ", 30_000, "1")),
        ("minus", deep("-", 120_000, "1")),
        ("attributes", deep("a.", 50_000, "b")),
        ("sums", deep("1+", 60_000, "1")),
        ("parentheses", deep("(", 100_000, "1")),
        ("filters", format!("{{{{ 1{} }}}}", "|abs".repeat(30_000))),
        ("choices", format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(10_000))),
        ("blocks", "{% if 1 %}".repeat(12_000)),
        ("a namespace that holds itself", "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".to_owned()),
        ("by another name", "{% set ns = namespace() %}{% set a = [ns] %}{% set ns.x = a %}{{ ns }}".to_owned()),
        ("through a macro", "{% set ns = namespace() %}{% macro m() %}{{ ns.x }}{% endmacro %}{% set ns.x = m %}".to_owned()),
        ("lists in lists", grown("[ns.x]") + "{{ ns.x }}"),
        ("lists in lists, dropped", grown("[ns.x]")),
        ("slices of slices", grown("ns.x * 1") + "{{ ns.x }}"),
        ("a cycle of nothing", "{% for m in messages %}{{ loop.cycle() }}{% endfor %}".to_owned()),
        ("a wide number", "{{ '{:>4000000000}'.format(1) }}".to_owned()),
        ("a precise one", "{{ '{:.4000000000f}'.format(1.0) }}".to_owned()),
        ("a width that is computed", "{{ '{:{}}'.format(1, 4000000000) }}".to_owned()),
        ("percent", "{{ '%4000000000d' % 1 }}".to_owned()),
        ("percent, computed", "{{ '%*d' % (4000000000, 1) }}".to_owned()),
        ("the filter", "{{ '%4000000000d' | format(1) }}".to_owned()),
        ("indented JSON", "{{ [1] | tojson(indent=4000000000) }}".to_owned()),
        ("indented text", "{{ 'a\nb' | indent(4000000000) }}".to_owned()),
        ("a long text", "{{ 'x' * 4000000000 }}".to_owned()),
        ("doubling", "{% set ns = namespace(x='x') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}".to_owned()),
        ("a macro of itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned()),
        ("itself", "{% include 'chat_template' %}".to_owned()),
        ("many searches", format!("{}{}", "{% set s = 'x' * 1000000 %}", "{% for i in range(99999) %}{{ s.count('y') }}{% endfor %}")),
        ("an error as long as a book", "{{ raise_exception('x' * 10000000) }}".to_owned()),
    ] {
        let began = std::time::Instant::now();
        let problem = rendered(&source);
        // Some of them are only long; none may take the process, its memory or its time.
        let seconds = began.elapsed().as_secs_f64();
        assert!(seconds < 10.0, "{name}: {seconds} s");
        assert!(
            problem.as_ref().is_err_and(|told| told.chars().count() < 1000) || problem.is_ok_and(|text| text.len() < 64 << 20),
            "{name}"
        );
    }
}

#[test]
fn limits_are_told_as_what_they_are() {
    let problem = |source: &str| rendered(source).expect_err("beyond the limits");
    assert!(problem(&"x".repeat(200_000)).contains("131072 are read at most"));
    assert!(problem("{% set ns = namespace() %}{% set ns.x = ns %}").contains("namespace `ns`"));
    assert!(problem("{{ '{:>4000000000}'.format(1) }}").contains("width"));
    assert!(problem("{{ [1] | tojson(indent=4000000000) }}").contains("indent"));
}

#[test]
fn namespaces_are_used_as_templates_use_them() {
    let text = "{%- set ns = namespace(found=false, text='') -%}{% for m in messages %}{% if m.role == 'user' and not ns.found %}\
                {% set ns.found = true %}{% set ns.text = ns['text'] + m.content %}{% endif %}{% endfor %}\
                {% if ns is defined %}{{ ns.text }}{% endif %}{% macro say(x) %}<{{ x }}>{% endmacro %}{{ say(ns.text) }}";
    assert_eq!(rendered(text).expect("renders"), "Hi.<Hi.>");
}
