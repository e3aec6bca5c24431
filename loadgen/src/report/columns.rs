//! Tables for a terminal.

/// A row: its cells, and what follows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) cells: Vec<String>,
    pub(crate) rest: String,
}

impl Row {
    pub(crate) fn new(cells: impl IntoIterator<Item = String>, rest: impl Into<String>) -> Self {
        Self {
            cells: cells.into_iter().collect(),
            rest: rest.into(),
        }
    }
}

/// The lines of a table. Cells of the first column are flush left, those of others right; a column is as wide as `usual`, or as its
/// widest cell with a blank before the next takes. A first cell may reach over empty ones.
pub(crate) fn table(rows: &[Row], usual: &[usize]) -> String {
    let widths = usual.iter().enumerate().map(|(column, &usual)| {
        let cells = rows.iter().filter(|row| column > 0 || !reaches_over(row));
        let longest = cells.map(|row| row.cells.get(column).map_or(0, |cell| length(cell)));
        usual.max(longest.max().unwrap_or(0) + 1)
    });
    let widths: Vec<usize> = widths.collect();
    rows.iter()
        .map(|row| line(row, &widths) + &row.rest + "\n")
        .collect()
}

fn reaches_over(row: &Row) -> bool {
    row.cells.get(1).is_some_and(String::is_empty)
}

fn line(row: &Row, widths: &[usize]) -> String {
    let mut line = String::new();
    let mut end = 0;
    for (column, (cell, width)) in row.cells.iter().zip(widths).enumerate() {
        end += width;
        if column == 0 {
            line += cell;
        } else if !cell.is_empty() {
            let blanks = end.saturating_sub(length(&line) + length(cell)).max(1);
            line += &" ".repeat(blanks);
            line += cell;
        }
    }
    line
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Row {
        Row::new(cells.iter().map(|&cell| cell.to_owned()), "")
    }

    #[test]
    fn columns_have_their_usual_width_or_more() {
        let rows = [
            row(&["", "a", "b"]),
            row(&["one", "1", "2"]),
            row(&["  of which some", "", "3"]),
        ];
        let few = "        a    b\none     1    2\n  of which some 3\n";
        assert_eq!(table(&rows, &[4, 5, 5]), few);
        let rows = [
            row(&["", "a", "b"]),
            row(&["one", "1,000,000", "123,456"]),
            row(&["of which", "", "1"]),
        ];
        let many = "             a       b\none  1,000,000 123,456\nof which             1\n";
        assert_eq!(table(&rows, &[4, 5, 5]), many);
    }
}
