//! What the pages of this program share: the frame, tables, tiles, and text that cannot become markup.

use std::fmt::Write as _;

/// One file, nothing outside of it: neither scripts nor requests.
const STYLE: &str = include_str!("style.css");

/// A whole page.
pub(crate) fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// Text that means itself, between tags and in attributes.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// A headline number: its name, its value with the unit, and what else belongs to it.
pub(crate) struct Tile {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) note: String,
}

pub(crate) fn tiles(tiles: &[Tile]) -> String {
    let mut html = String::from("<dl class=\"tiles\">\n");
    for tile in tiles {
        let _ = writeln!(
            html,
            "<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>",
            escaped(tile.name),
            escaped(&tile.value),
            escaped(&tile.note)
        );
    }
    html.push_str("</dl>\n");
    html
}

/// A heading and what belongs below it.
pub(crate) fn section(heading: &str, content: &str) -> String {
    format!(
        "<section>\n<h2>{}</h2>\n{content}</section>\n",
        escaped(heading)
    )
}

/// A line that must not be overlooked.
pub(crate) fn banner(class: &str, text: &str) -> String {
    format!(
        "<p class=\"banner {class}\" role=\"alert\">{}</p>\n",
        escaped(text)
    )
}

pub(crate) fn note(text: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", escaped(text))
}

/// Rows of cells under heads. The first cell of a row names it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) caption: &'static str,
    pub(crate) heads: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// What stands in a table.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// A number with its unit, to the right.
    Number(String),
    /// Words, to the left.
    Text(String),
    /// A row's name, and what it means, below it.
    Named(String, String),
    /// From 0 to 1, as a bar; left out on narrow screens.
    Bar(f64),
}

impl Cell {
    pub(crate) fn number(text: impl Into<String>) -> Self {
        Self::Number(text.into())
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn html(&self) -> String {
        match self {
            Self::Number(text) => format!("<td>{}</td>", escaped(text)),
            Self::Text(text) => format!("<td class=\"text\">{}</td>", escaped(text)),
            Self::Named(name, meaning) => format!(
                "<th scope=\"row\">{}<small>{}</small></th>",
                escaped(name),
                escaped(meaning)
            ),
            Self::Bar(share) => format!(
                "<td class=\"text bars\" aria-hidden=\"true\"><span class=\"track\"><span class=\"bar\" style=\"width:{:.1}%\"></span></span></td>",
                share.clamp(0.0, 1.0) * 100.0
            ),
        }
    }
}

impl Table {
    pub(crate) fn html(&self) -> String {
        let mut html = String::from("<div class=\"scroll\" tabindex=\"0\"><table>\n");
        if !self.caption.is_empty() {
            let _ = writeln!(html, "<caption>{}</caption>", escaped(self.caption));
        }
        html.push_str("<thead><tr>");
        for (column, head) in self.heads.iter().enumerate() {
            let _ = write!(
                html,
                "<th scope=\"col\"{}>{}</th>",
                self.head_class(column),
                escaped(head)
            );
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            html.push_str(&row_html(row));
        }
        html.push_str("</tbody></table></div>\n");
        html
    }

    /// Heads stand where their columns do.
    fn head_class(&self, column: usize) -> &'static str {
        let below = self.rows.first().and_then(|row| row.get(column));
        match below {
            Some(Cell::Bar(_)) => " class=\"bars\"",
            Some(Cell::Text(_)) => " class=\"text\"",
            _ => "",
        }
    }

    /// The same, folded away: the text equivalent of a picture.
    pub(crate) fn folded(&self, summary: &str) -> String {
        format!(
            "<details><summary>{}</summary>\n{}</details>\n",
            escaped(summary),
            self.html()
        )
    }
}

fn row_html(row: &[Cell]) -> String {
    let mut html = String::from("<tr>");
    for (column, cell) in row.iter().enumerate() {
        match cell {
            Cell::Text(text) | Cell::Number(text) if column == 0 => {
                let _ = write!(html, "<th scope=\"row\">{}</th>", escaped(text));
            }
            cell => html.push_str(&cell.html()),
        }
    }
    html.push_str("</tr>\n");
    html
}

/// Names and values.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let mut html = String::from("<dl class=\"facts\">\n");
    for (name, value) in facts {
        let _ = writeln!(
            html,
            "<dt>{}</dt><dd>{}</dd>",
            escaped(name),
            escaped(value)
        );
    }
    html.push_str("</dl>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let evil = "<script>\"'&";
        assert_eq!(escaped(evil), "&lt;script&gt;&quot;&#39;&amp;");
        let table = Table {
            caption: "",
            heads: vec!["a", "b"],
            rows: vec![vec![Cell::text(evil), Cell::number(evil)]],
        };
        let html = page(
            evil,
            &(table.folded(evil) + &facts(&[("a", evil.to_owned())])),
        );
        assert!(!html.contains("<script"), "{html}");
    }

    #[test]
    fn bars_stay_within_their_track() {
        assert!(Cell::Bar(7.0).html().contains("width:100.0%"));
        assert!(Cell::Bar(f64::NAN.max(0.0)).html().contains("width:0.0%"));
    }

    #[test]
    fn nothing_is_fetched() {
        for way_out in ["http:", "https:", "url(", "@import", "src="] {
            assert!(!page("a", "b").contains(way_out), "{way_out}");
        }
    }
}
