//! Tables for the terminal.

/// Rows of cells under a heading; columns of numbers are aligned to the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: &[&str]) {
        self.rows.push(cells.iter().map(|&cell| cell.to_owned()).collect());
    }

    /// A line across, in the widths of the columns.
    pub(crate) fn line(&mut self) {
        self.rows.push(Vec::new());
    }

    pub(crate) fn render(&self) -> String {
        let columns = self.rows[0].len();
        let column = |index: usize| self.rows.iter().filter_map(move |row| row.get(index));
        let widths: Vec<usize> = (0..columns)
            .map(|index| column(index).map(|cell| cell.chars().count()).max().unwrap_or(0))
            .collect();
        let cells = |index: usize| column(index).skip(1);
        let numeric: Vec<bool> = (0..columns)
            .map(|index| cells(index).all(|cell| is_number(cell)) && cells(index).any(|cell| has_digit(cell)))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (index, &width) in widths.iter().enumerate() {
                let gap = if index == 0 { "" } else { "  " };
                line.push_str(gap);
                line.push_str(&match row.get(index) {
                    None => "-".repeat(width),
                    Some(cell) if numeric[index] => format!("{cell:>width$}"),
                    Some(cell) => format!("{cell:<width$}"),
                });
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Also a dash for "none", and a time such as `1.5 s`.
fn is_number(cell: &str) -> bool {
    cell.is_empty() || cell == "-" || has_digit(cell)
}

fn has_digit(cell: &str) -> bool {
    cell.starts_with(|c: char| c.is_ascii_digit())
}

/// A count of things, in words.
pub(crate) fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_go_to_the_right() {
        let mut table = Table::new(&["row", "pass", "what"]);
        table.row(&["core", "7", "test"]);
        table.row(&["longer", "123", "check"]);
        table.line();
        table.row(&["total", "130", ""]);
        assert_eq!(
            table.render(),
            "\
row     pass  what
core       7  test
longer   123  check
------  ----  -----
total    130
"
        );
    }

    #[test]
    fn counts_are_words() {
        assert_eq!((count(1, "row"), count(0, "row")), ("1 row".into(), "0 rows".into()));
    }
}
