//! Plain aligned columns.

use super::printable;

/// Rows of text under headings; no lines around them, so that they are easy to copy and to cut.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| heading.to_uppercase()).collect()] }
    }

    /// One more row, of cells that are printable: what others chose stays in its line and its column.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The table as text, each line ended.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
            let line = cells.concat();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_align_and_lines_have_no_blanks_at_the_end() {
        let mut table = Table::new(&["name", "version"]);
        table.row(vec!["acme-prod".into(), "3".into()]);
        table.row(vec!["ü".into(), String::new()]);
        assert_eq!(table.text(), "NAME       VERSION\nacme-prod  3\nü\n");
    }

    #[test]
    fn a_cell_does_nothing_to_the_terminal() {
        let mut table = Table::new(&["jti", "b"]);
        table.row(vec!["\u{1b}[2J\r\u{9b}31m\n".into(), "x".into()]);
        let replaced = "\u{fffd}[2J\u{fffd}\u{fffd}31m\u{fffd}";
        assert_eq!(table.text(), format!("JTI         B\n{replaced}  x\n"));
    }
}
