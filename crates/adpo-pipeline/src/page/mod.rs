//! `report.html`: a run's report as one page that needs nothing else, to look at and to search.
//!
//! ```text
//! report, curves, prompts, scored responses ──▶ JSON in a block that no text can leave ──▶ page.html ◀── page.css, *.js
//! ```
//!
//! The page draws itself in the browser. Text from models, files and servers is data throughout: it stands in the JSON alone, the script
//! sets it as text and never as mark-up, and the page's policy lets no other script run and nothing be fetched.

mod curves;
mod data;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

pub(crate) use data::SeedRows;

use crate::PipelineError;
use crate::report::RunReport;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(
    include_str!("text.js"),
    include_str!("charts.js"),
    include_str!("curves.js"),
    include_str!("table.js"),
    include_str!("page.js"),
);

/// The page of a run. Harmful text is in it, behind a click.
pub(crate) fn html(report: &RunReport, seeds: &[SeedRows]) -> Result<String, PipelineError> {
    page(&data::Data::new(report, seeds)?)
}

fn page(data: &impl Serialize) -> Result<String, PipelineError> {
    let json = serde_json::to_string(data).map_err(|e| PipelineError::file("report.html".as_ref(), e))?;
    Ok(format!(
        include_str!("page.html"),
        style_hash = source_hash(STYLE),
        script_hash = source_hash(SCRIPT),
        style = STYLE,
        script = SCRIPT,
        data = inert(&json)
    ))
}

/// How a content security policy names a style or script.
fn source_hash(source: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(source)))
}

/// JSON that holds nothing a browser's parser acts on, inside `<script>` or read as source: all that is replaced stands inside strings,
/// where an escape means the same.
fn inert(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 16);
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                let escape = format!("\\u{:04x}", u32::from(c));
                out.push_str(&escape);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [&str; 7] = [
        "</script><img src=x onerror=alert(1)>",
        "<!-- <script> ]]>",
        "turned \u{202e}txet\u{202c} \u{2066}x\u{2069} \u{200f}",
        "{{data}} {data} {script} %s ${x}",
        "nothing\0here",
        "line\u{2028}paragraph\u{2029} \u{feff}",
        "&lt;/script&gt; \\u003c/script\\u003e \" ' \\",
    ];

    #[test]
    fn text_from_outside_cannot_leave_its_block_and_comes_back_as_it_was() {
        let html = page(&HOSTILE).expect("a page");
        let (_, rest) = html.split_once(r#"<script type="application/json" id="data">"#).expect("the block");
        let (block, after) = rest.split_once('<').expect("its end");
        assert!(after.starts_with("/script>\n<script>\"use strict\";"), "the first mark-up after the data is the template's own");
        let unsafe_in_block = |c: char| c.is_control() || "<>&".contains(c) || "\u{202e}\u{2028}\u{2029}\u{200f}".contains(c);
        assert!(!block.contains(unsafe_in_block), "{block}");
        assert_eq!(serde_json::from_str::<Vec<String>>(block).expect("JSON"), HOSTILE);
    }

    #[test]
    fn the_template_is_filled_once_and_its_own_parts_stand_as_they_are() {
        let html = page(&HOSTILE).expect("a page");
        assert!(html.contains(&format!("<style>{STYLE}</style>")) && html.contains(&format!("<script>{SCRIPT}</script>")));
        assert_eq!(html.matches("</script>").count(), 2);
        assert!(html.contains(r"{{data}} {data} {script}"), "what looks like a place in the template is text");
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</") && !SCRIPT.contains("<!--"), "the assets cannot end their own elements");
    }

    #[test]
    fn the_policy_names_the_page_s_own_script_and_style_and_forbids_the_rest() {
        let html = page(&HOSTILE).expect("a page");
        assert!(html.contains("default-src 'none'; script-src 'sha256-") && !html.contains("unsafe-inline"));
        // printf abc | openssl dgst -sha256 -binary | base64
        assert_eq!(source_hash("abc"), "'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='");
    }

    #[test]
    fn the_script_never_makes_mark_up_of_text_and_asks_for_nothing() {
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "fetch(",
            "XMLHttpRequest",
            "import(",
            "createContextualFragment",
            "DOMParser",
            "srcdoc",
            "href",
            "setTimeout",
        ] {
            assert!(!SCRIPT.contains(forbidden), "{forbidden}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
