use proptest::prelude::*;

use super::*;

const EOS: u32 = 2;
const PADDED: Layout = Layout { packing: None, share_prompts: false };
const SHARED: Layout = Layout { packing: None, share_prompts: true };

fn packed(width: usize) -> Layout {
    Layout { packing: Some(width), share_prompts: false }
}

fn dialogue(ids: &[u32], trained_from: usize) -> Encoded {
    Encoded { ids: ids.to_vec(), trained: (0..ids.len()).map(|i| i >= trained_from).collect() }
}

fn dialogues(encoded: &[Encoded]) -> Vec<Sequence<'_>> {
    let of = |(example, encoded)| Sequence { example, role: ResponseRole::Sft, content: Content::Dialogue(encoded) };
    encoded.iter().enumerate().map(of).collect()
}

fn response<'a>(example: usize, role: ResponseRole, prompt: &'a [u32], response: &'a [u32]) -> Sequence<'a> {
    Sequence { example, role, content: Content::Response { prompt, response } }
}

/// For every target of a sequence the ids that its predicting cell attends to, in the order of their positions, and the
/// token: read back from the cells alone.
fn predictions(batch: &Batch, sequence: usize) -> Vec<(Vec<u32>, u32)> {
    let own = batch.targets.iter().filter(|target| target.sequence as usize == sequence);
    own.map(|target| {
        let at = target.at as usize;
        assert_ne!(batch.segments[at], 0, "no target is predicted from padding");
        let row = at - at % batch.width;
        let seen = (row..=at).filter(|k| batch.segments[*k] == batch.segments[at] && [0, batch.branches[at]].contains(&batch.branches[*k]));
        let cells: Vec<usize> = seen.collect();
        let positions: Vec<u32> = cells.iter().map(|k| batch.positions[*k]).collect();
        assert_eq!(positions, (0..positions.len() as u32).collect::<Vec<_>>(), "one token at each position");
        (cells.iter().map(|k| batch.ids[*k]).collect(), target.token)
    })
    .collect()
}

/// The same from the sequence itself.
fn expected(sequence: &Sequence<'_>) -> Vec<(Vec<u32>, u32)> {
    let (prompt, rest) = sequence.content.parts();
    let ids = [prompt, rest].concat();
    let trained = (prompt.len().max(1)..ids.len()).filter(|at| sequence.content.trains(at - prompt.len()));
    trained.map(|at| (ids[..at].to_vec(), ids[at])).collect()
}

#[test]
fn a_padding_id_that_is_the_end_of_sequence_hides_no_target() {
    // The padding id is 0; here 0 is also a real token and the end of sequence.
    let rows = [dialogue(&[1, 5, 6, 0], 2), dialogue(&[1, 0], 1)];
    let batch = Batch::new(&dialogues(&rows), PADDED);
    assert_eq!(batch.ids, [1, 5, 6, 0, 1, 0, 0, 0]);
    assert_eq!(batch.segments, [1, 1, 1, 1, 2, 2, 0, 0]);
    assert_eq!(predictions(&batch, 0), [(vec![1, 5], 6), (vec![1, 5, 6], 0)]);
    assert_eq!(predictions(&batch, 1), [(vec![1], 0)]);
}

#[test]
fn the_prompt_is_no_target_and_the_last_id_is() {
    let batch = Batch::new(&[response(3, ResponseRole::Chosen, &[1, 7, 8], &[9, EOS])], PADDED);
    assert_eq!(predictions(&batch, 0), [(vec![1, 7, 8], 9), (vec![1, 7, 8, 9], EOS)]);
    assert_eq!(batch.sequences, [SequenceInfo { example: 3, role: ResponseRole::Chosen, targets: 2, tokens: 5 }]);
}

#[test]
fn packing_fills_few_rows_evenly() {
    let rows: Vec<Encoded> = [3_usize, 4, 2, 1, 6].iter().map(|n| dialogue(&vec![9; *n], 1)).collect();
    let batch = Batch::new(&dialogues(&rows), packed(10));
    assert_eq!((batch.rows, batch.width), (2, 8), "not 10 and 6");
    assert_eq!(batch.segments, [5, 5, 5, 5, 5, 5, 3, 3, 2, 2, 2, 2, 1, 1, 1, 4]);
    assert_eq!(batch.positions, [0, 1, 2, 3, 4, 5, 0, 1, 0, 1, 2, 3, 0, 1, 2, 0]);
}

#[test]
fn rows_that_cannot_be_filled_evenly_are_one_more() {
    // 15 cells would go into two rows of 8, these three not.
    let rows: Vec<Encoded> = [5_usize, 5, 5].iter().map(|n| dialogue(&vec![9; *n], 1)).collect();
    let batch = Batch::new(&dialogues(&rows), packed(8));
    assert_eq!((batch.rows, batch.width), (3, 5));
}

#[test]
fn what_is_longer_than_the_width_gets_the_width_it_needs() {
    let rows = [dialogue(&[1; 9], 1), dialogue(&[1; 2], 1)];
    let batch = Batch::new(&dialogues(&rows), packed(4));
    assert_eq!((batch.rows, batch.width), (2, 9));
    let responses = [response(0, ResponseRole::Chosen, &[1, 2], &[3; 4]), response(0, ResponseRole::Rejected, &[1, 2], &[4; 3])];
    let batch = Batch::new(&responses, Layout { packing: Some(5), share_prompts: true });
    assert_eq!((batch.rows, batch.width), (1, 9));
}

#[test]
fn responses_stand_behind_one_prompt_and_their_first_tokens_are_predicted_by_its_last() {
    let (x, y) = ([1, 7], [1, 8, 8]);
    // Role by role, as training has them.
    let sequences = [
        response(0, ResponseRole::Chosen, &x, &[20, EOS]),
        response(1, ResponseRole::Chosen, &y, &[21, EOS]),
        response(0, ResponseRole::Rejected, &x, &[30, 31, EOS]),
        response(1, ResponseRole::Rejected, &y, &[EOS]),
        response(0, ResponseRole::Toxic, &x, &[40]),
    ];
    let batch = Batch::new(&sequences, SHARED);
    assert_eq!((batch.rows, batch.width), (1, 14));
    assert_eq!(batch.ids, [1, 7, 20, EOS, 30, 31, EOS, 40, 1, 8, 8, 21, EOS, EOS]);
    assert_eq!(batch.positions, [0, 1, 2, 3, 2, 3, 4, 2, 0, 1, 2, 3, 4, 3]);
    assert_eq!(batch.segments, [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    assert_eq!(batch.branches, [0, 0, 1, 1, 2, 2, 2, 3, 0, 0, 0, 1, 1, 2]);
    let firsts: Vec<u32> = (0..5).filter_map(|i| Some(batch.targets.iter().find(|t| t.sequence == i)?.at)).collect();
    assert_eq!(firsts, [1, 10, 1, 10, 1]);
    assert!(batch.sequences.iter().map(|s| (s.example, s.role)).eq(sequences.iter().map(|s| (s.example, s.role))), "the order given");
}

#[test]
fn prompts_that_differ_in_one_token_are_not_shared() {
    let sequences = [response(0, ResponseRole::Chosen, &[1, 7], &[20]), response(0, ResponseRole::Toxic, &[1, 7, 63], &[40])];
    let batch = Batch::new(&sequences, Layout { packing: Some(9), share_prompts: true });
    assert_eq!(batch.ids, [1, 7, 63, 40, 1, 7, 20]);
    assert_eq!(batch.segments, [2, 2, 2, 2, 1, 1, 1]);
    assert_eq!(batch.branches, [0, 0, 0, 1, 0, 0, 1]);
}

#[test]
fn no_sequences_make_an_empty_batch() {
    for layout in [PADDED, packed(8), SHARED] {
        let batch = Batch::new(&[], layout);
        assert_eq!((batch.rows, batch.width, batch.ids.len(), batch.targets.len()), (0, 0, 0, 0));
    }
}

proptest! {
    #[test]
    fn every_layout_predicts_the_same_tokens_from_the_same_context(
        prompts in prop::collection::vec(prop::collection::vec(0_u32..50, 0..9), 1..4),
        responses in prop::collection::vec((0_usize..4, prop::collection::vec(0_u32..50, 0..7)), 0..12),
        dialogues_ in prop::collection::vec((prop::collection::vec(0_u32..50, 1..12), 0_usize..12), 0..4),
        width in 1_usize..40,
    ) {
        let encoded: Vec<Encoded> = dialogues_.iter().map(|(ids, from)| dialogue(ids, *from)).collect();
        let mut sequences = dialogues(&encoded);
        let role = ResponseRole::Chosen;
        sequences.extend(responses.iter().enumerate().map(|(i, (prompt, ids))| response(i, role, &prompts[prompt % prompts.len()], ids)));
        let padded = Batch::new(&sequences, PADDED);
        for layout in [PADDED, packed(width), SHARED, Layout { packing: Some(width), share_prompts: true }] {
            let batch = Batch::new(&sequences, layout);
            prop_assert_eq!(&batch.sequences, &padded.sequences);
            prop_assert!(batch.rows <= padded.rows);
            prop_assert!(batch.targets.is_sorted_by_key(|target| target.sequence), "sequence by sequence");
            for (i, sequence) in sequences.iter().enumerate() {
                prop_assert_eq!(predictions(&batch, i), expected(sequence));
                prop_assert_eq!(batch.sequences[i].targets, expected(sequence).len());
            }
            // Each prompt lies there once for all, or once for each of its responses.
            let mut used: usize = sequences.iter().map(|s| s.content.tokens()).sum();
            if layout.share_prompts {
                let mut seen = std::collections::HashSet::new();
                used -= sequences.iter().map(|s| s.content.parts().0).filter(|prompt| !seen.insert(*prompt)).map(<[u32]>::len).sum::<usize>();
            }
            prop_assert_eq!(batch.segments.iter().filter(|segment| **segment > 0).count(), used);
        }
    }
}
