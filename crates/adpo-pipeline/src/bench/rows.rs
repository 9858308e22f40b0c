//! Rows of real lengths for [`super::bench_step`] and for whatever it is compared with: both read the same file.

use std::path::Path;

use adpo_data::{Batch, Content, EncodeReport, EncodedTriple, Encoder, EncodingOptions, Layout, Mask, OverLength, ResponseRole, Sequence};
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::resources::Resources;

/// One line of the file, all of it token ids.
#[derive(Serialize, Deserialize)]
struct Line {
    prompt: Vec<u32>,
    chosen: Vec<u32>,
    rejected: Vec<u32>,
    toxic: Vec<u32>,
}

/// Where rows for a bench come from.
#[derive(Debug, Clone)]
pub struct RowsBench<'a> {
    /// Preferences in any format that is read.
    pub source: &'a Path,
    /// The file to write, one JSON object per line.
    pub out: &'a Path,
    /// A checkpoint by its name: its tokenizer is used.
    pub checkpoint: &'a str,
    /// Rows whose prompt and response have more tokens are left out.
    pub max_length: usize,
    /// Rows per batch in the counts.
    pub batch: usize,
}

/// What was written, and what a forward pass over all of it, batch by batch, has to compute.
#[derive(Debug, Clone, Serialize)]
pub struct RowsFigures {
    what: &'static str,
    rows: usize,
    /// Rows whose third response is another row's rejected one.
    borrowed: usize,
    encoding: EncodeReport,
    prompt_tokens: usize,
    /// Chosen, rejected, toxic.
    response_tokens: [usize; 3],
    batch: usize,
    /// Tokens of all sequences, each with its prompt.
    sequence_tokens: usize,
    /// Cells of one sequence per row, padded to the longest.
    padded_cells: usize,
    /// Cells of rows with as many prompts and their responses as fit, each prompt there once.
    shared_cells: usize,
    /// Those of them that hold a token.
    shared_tokens: usize,
}

/// Encodes preferences into rows. One without a toxic response borrows the rejected response of the row whose own is the next
/// shorter: of the right length, and good for timing alone.
///
/// # Errors
/// [`PipelineError`] if the source cannot be read or encoded, holds fewer than two rows that fit, or `out` cannot be written.
pub fn bench_rows(bench: &RowsBench<'_>, resources: &Resources) -> Result<RowsFigures, PipelineError> {
    let (rows, _) = adpo_data::read_preferences(bench.source)?;
    let tokenizer = resources.tokenizer(bench.checkpoint)?;
    let options = EncodingOptions { max_length: bench.max_length, over_length: OverLength::Drop, mask: Mask::Last, control: None };
    let mut encoder = Encoder::new(&tokenizer, options);
    let mut triples = Vec::with_capacity(rows.len());
    for row in &rows {
        triples.extend(encoder.preference(row)?);
    }
    if triples.len() < 2 {
        return Err(PipelineError::Data {
            id: bench.source.display().to_string(),
            problem: format!("has {} rows of at most {} tokens; two are needed at least", triples.len(), bench.max_length),
        });
    }
    let borrowed = borrow_toxic(&mut triples);
    let lines: Vec<Line> = triples.iter().filter_map(line).collect();
    adpo_data::write_jsonl(bench.out, &lines)?;
    Ok(figures(&triples, borrowed, encoder.report().clone(), bench.batch))
}

/// The rows of a file that [`bench_rows`] or another program wrote.
pub(super) fn read(path: &Path) -> Result<Vec<EncodedTriple>, PipelineError> {
    let lines: Vec<Line> = adpo_data::read_jsonl(path)?;
    let triple = |(i, line): (usize, Line)| super::triple(i, line.prompt, [line.chosen, line.rejected, line.toxic]);
    Ok(lines.into_iter().enumerate().map(triple).collect())
}

fn line(triple: &EncodedTriple) -> Option<Line> {
    let EncodedTriple { prompt, chosen, rejected, toxic, .. } = triple.clone();
    Some(Line { prompt, chosen, rejected, toxic: toxic? })
}

fn borrow_toxic(triples: &mut [EncodedTriple]) -> usize {
    let mut by_length: Vec<usize> = (0..triples.len()).collect();
    by_length.sort_by_key(|i| triples[*i].rejected.len());
    let mut borrowed = 0;
    for (rank, row) in by_length.iter().enumerate() {
        if triples[*row].toxic.is_none() {
            let lender = by_length[if rank == 0 { 1 } else { rank - 1 }];
            triples[*row].toxic = Some(triples[lender].rejected.clone());
            borrowed += 1;
        }
    }
    borrowed
}

fn figures(triples: &[EncodedTriple], borrowed: usize, encoding: EncodeReport, batch: usize) -> RowsFigures {
    let roles = |triple: &EncodedTriple| [triple.chosen.len(), triple.rejected.len(), triple.toxic.as_ref().map_or(0, Vec::len)];
    let mut figures = RowsFigures {
        what: "rows",
        rows: triples.len(),
        borrowed,
        encoding,
        prompt_tokens: triples.iter().map(|triple| triple.prompt.len()).sum(),
        response_tokens: [0, 1, 2].map(|role| triples.iter().map(|triple| roles(triple)[role]).sum()),
        batch,
        sequence_tokens: 0,
        padded_cells: 0,
        shared_cells: 0,
        shared_tokens: 0,
    };
    for triples in triples.chunks(batch.max(1)) {
        let sequences: Vec<Sequence<'_>> = triples.iter().enumerate().flat_map(|(i, triple)| responses(i, triple)).collect();
        let padded = Batch::new(&sequences, Layout::default());
        let shared = Batch::new(&sequences, Layout { packing: None, share_prompts: true });
        figures.sequence_tokens += padded.sequences.iter().map(|sequence| sequence.tokens).sum::<usize>();
        figures.padded_cells += padded.ids.len();
        figures.shared_cells += shared.ids.len();
        figures.shared_tokens += shared.segments.iter().filter(|segment| **segment > 0).count();
    }
    figures
}

fn responses(example: usize, triple: &EncodedTriple) -> impl Iterator<Item = Sequence<'_>> {
    let responses = [
        (ResponseRole::Chosen, Some(&triple.chosen)),
        (ResponseRole::Rejected, Some(&triple.rejected)),
        (ResponseRole::Toxic, triple.toxic.as_ref()),
    ];
    let prompt = &triple.prompt;
    responses
        .into_iter()
        .filter_map(move |(role, response)| Some(Sequence { example, role, content: Content::Response { prompt, response: response? } }))
}
