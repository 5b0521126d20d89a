//! A few colours, or none.

/// Paints text for a terminal, or leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    color: bool,
}

impl Style {
    /// `color` decides once for all.
    pub fn new(color: bool) -> Self {
        Self { color }
    }

    /// Whether nothing is painted.
    pub fn is_plain(self) -> bool {
        !self.color
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Something went wrong.
    pub fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Something held.
    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Look here.
    pub fn yellow(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// A name or an address.
    pub fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// An aside.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}
