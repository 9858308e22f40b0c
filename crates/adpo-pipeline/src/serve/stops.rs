//! Stop strings in a text that comes piece by piece.

/// Gives out text up to the first stop string. What may be the beginning of one is held back until it is known.
#[derive(Debug, Clone)]
pub(super) struct Stops {
    strings: Vec<String>,
    held: String,
}

impl Stops {
    pub(super) fn new(strings: Vec<String>) -> Self {
        Self { strings, held: String::new() }
    }

    /// The text that is now certain, and whether a stop string follows it.
    pub(super) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(start) = self.strings.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), true);
        }
        let may_begin = |tail: &str| self.strings.iter().any(|stop| stop.starts_with(tail));
        let certain = self.held.char_indices().map(|(at, _)| at).find(|at| may_begin(&self.held[*at..])).unwrap_or(self.held.len());
        (self.held.drain(..certain).collect(), false)
    }

    /// What was held back and became no stop string.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut stops = Stops::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut out = Vec::new();
        for piece in pieces {
            let (text, stopped) = stops.push(piece);
            out.push(text);
            if stopped {
                return (out, true);
            }
        }
        out.push(stops.finish());
        (out, false)
    }

    #[test]
    fn a_stop_string_may_span_pieces_and_is_not_given_out() {
        assert_eq!(through(&["\n\nQ:"], &["Yes.", "\n", "\nQ", ": no"]), (["Yes.", "", "", ""].map(String::from).into(), true));
        assert_eq!(through(&["b", "ab"], &["xa", "b"]), (["x", ""].map(String::from).into(), true), "the one that begins first");
    }

    #[test]
    fn what_only_looks_like_a_stop_string_comes_out_late_but_whole() {
        assert_eq!(through(&["abc"], &["xab", "abd", "ab"]), (["x", "ababd", "", "ab"].map(String::from).into(), false));
        assert_eq!(through(&["👍👍"], &["é👍", "é"]), (["é", "👍é", ""].map(String::from).into(), false));
        assert_eq!(through(&[], &["a", "b"]), (["a", "b", ""].map(String::from).into(), false));
    }
}
