//! Columns of text for people.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Text with one style.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Styled text.
    pub fn new(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: Style::new() }
    }
}

/// Rows under a heading. Columns are as wide as their widest text; two spaces lie between.
#[derive(Debug, Default)]
pub struct Table {
    columns: Vec<(Cell, Align)>,
    rows: Vec<Vec<Cell>>,
    indent: usize,
    width_max: Option<usize>,
}

/// The style of headings.
pub const HEADING: Style = Style::new().bold().underline();

impl Table {
    /// A table with these headings; if all are empty no heading is printed.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        let columns = columns.into_iter();
        let columns = columns.map(|(name, align)| (Cell::new(name, HEADING), align)).collect();
        Self { columns, ..Self::default() }
    }

    /// Moves everything to the right.
    #[must_use]
    pub fn indent(mut self, columns: usize) -> Self {
        self.indent = columns;
        self
    }

    /// Cuts the last column so that no line is wider than this.
    #[must_use]
    pub fn width_max(mut self, columns: usize) -> Self {
        self.width_max = Some(columns);
        self
    }

    /// Adds a row; missing cells are empty.
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines, each with its end.
    pub fn render(&self) -> String {
        let heading: Vec<Cell> = self.columns.iter().map(|(cell, _)| cell.clone()).collect();
        let shown = heading.iter().any(|cell| !cell.text.is_empty());
        let lines = || shown.then_some(&heading).into_iter().chain(&self.rows);
        let mut widths = vec![0; self.columns.len()];
        for cells in lines() {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.text.width());
            }
        }
        if let (Some(max), Some((last, others))) = (self.width_max, widths.split_last_mut()) {
            let taken = self.indent + others.iter().map(|width| width + 2).sum::<usize>();
            *last = (*last).min(max.saturating_sub(taken).max(8));
        }
        let mut text = String::new();
        for cells in lines() {
            let mut line = " ".repeat(self.indent);
            for (n, ((cell, (_, align)), width)) in
                cells.iter().zip(&self.columns).zip(&widths).enumerate()
            {
                if n > 0 {
                    line.push_str("  ");
                }
                let cut = cut(&cell.text, *width);
                let padding = " ".repeat(width.saturating_sub(cut.width()));
                let style = cell.style;
                let styled = format!("{style}{cut}{style:#}");
                match align {
                    Align::Left => line.extend([styled, padding]),
                    Align::Right => line.extend([padding, styled]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// At most `width` columns of `text`, on one line; what is cut off is replaced by `…`.
pub fn cut(text: &str, width: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.width() <= width {
        return text;
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        out.push(c);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_alphabet() {
        let mut table = Table::new([("", Align::Left), ("", Align::Right)]).indent(1);
        table.row(["a", "1"]);
        table.row(["日本", "10"]);
        table.row(["x\ny"]);
        assert_eq!(table.render(), " a      1\n 日本  10\n x y\n");
    }

    #[test]
    fn a_heading_is_printed_once_and_the_last_column_gives_way() {
        let mut table = Table::new([("k", Align::Left), ("v", Align::Left)]).width_max(12);
        table.row(["key", "a long value indeed"]);
        let text = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(text, "k    v\nkey  a long …\n");
    }

    #[test]
    fn cuts() {
        for (text, width, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 4, "日…"),
            ("日本語", 5, "日本…"),
            ("a\tb", 3, "a b"),
            ("", 0, ""),
        ] {
            assert_eq!(cut(text, width), expected, "{text} {width}");
        }
    }
}
