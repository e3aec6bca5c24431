//! Which of a message's lines go into its digest: all of a few, or three from each of two places of many.

/// A message of no more lines than this counts as a whole.
const MAX_LINES_OF_WHOLE: usize = 4;

/// Where the pieces of a longer one begin, in hundredths of its lines.
const PIECES_PERCENT: [usize; 2] = [20, 60];

/// Lines in a piece.
const LINES_OF_PIECE: usize = 3;

/// Those that count, in order. Pieces of a short message overlap: then a line counts twice.
pub(super) fn select(lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if lines.len() <= MAX_LINES_OF_WHOLE {
        return lines;
    }
    PIECES_PERCENT
        .into_iter()
        .flat_map(|percent| {
            let start = percent * lines.len() / 100;
            lines.iter().skip(start).take(LINES_OF_PIECE).cloned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(count: u8) -> Vec<u8> {
        let lines = (0..count).map(|line| vec![line]).collect();
        select(lines).concat()
    }

    #[test]
    fn few_lines_all_count() {
        assert!(selected(0).is_empty());
        assert_eq!(selected(4), [0, 1, 2, 3]);
    }

    #[test]
    fn of_many_lines_two_pieces_count() {
        assert_eq!(selected(5), [1, 2, 3, 3, 4]);
        assert_eq!(selected(6), [1, 2, 3, 3, 4, 5]);
        assert_eq!(selected(100), [20, 21, 22, 60, 61, 62]);
    }
}
