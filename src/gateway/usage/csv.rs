//! Tables for spreadsheets. Why with care: a caller chooses its own name, and a cell that begins with `=` is a program to
//! whoever opens the file.

/// One line of cells.
pub fn line(cells: impl IntoIterator<Item = impl AsRef<str>>, out: &mut String) {
    for (place, cell) in cells.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        push(cell.as_ref(), out);
    }
    out.push_str("\r\n");
}

fn push(cell: &str, out: &mut String) {
    // What a spreadsheet takes for the beginning of a formula, also behind spaces.
    let begins =
        |first: char| matches!(first, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠');
    let is_formula = cell.starts_with(begins) || cell.trim_start().starts_with(begins);
    let needs_quotes = is_formula || cell.contains([',', ';', '"', '\r', '\n', '\t', '\0']);
    if !needs_quotes {
        return out.push_str(cell);
    }
    out.push('"');
    if is_formula {
        out.push('\'');
    }
    for character in cell.chars().filter(|character| *character != '\0') {
        if character == '"' {
            out.push('"');
        }
        out.push(character);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_cell_is_a_formula_or_leaves_its_place() {
        for (cell, written) in [
            ("alpha", "alpha"),
            ("gpt-4o", "gpt-4o"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=1+1", "\"'=1+1\""),
            ("+cmd|' /C calc'!A0", "\"'+cmd|' /C calc'!A0\""),
            ("-2", "\"'-2\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("  =1", "\"'  =1\""),
            ("＝1", "\"'＝1\""),
            ("a\r\n=1", "\"a\r\n=1\""),
            ("a;=1", "\"a;=1\""),
        ] {
            let mut out = String::new();
            super::line([cell, "x"], &mut out);
            assert_eq!(out, format!("{written},x\r\n"), "{cell:?}");
        }
    }
}
