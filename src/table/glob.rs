//! Patterns of paths, as DuckDB reads them.

use super::listing::is_hidden;
use crate::error::{Result, invalid};

/// A pattern of the path of a file below a folder.
///
/// `*` stands for any characters of one name, `?` for one, `[a-c]` and `[!a-c]` for one of a set or none of it, and `**`
/// for any number of folders. A hidden name is matched by a pattern that begins as it does, and by no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Folders,
    Name(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Many,
    Set { ranges: Vec<(char, char)>, without: bool },
}

impl Glob {
    /// Whether a text holds a character that makes it a pattern.
    pub(super) fn starts_in(text: &str) -> Option<usize> {
        text.find(['*', '?', '['])
    }

    pub(super) fn parse(pattern: &str) -> Result<Self> {
        let (names, whole) = match pattern.strip_suffix('/') {
            Some(folder) => (folder, true),
            None => (pattern, false),
        };
        let mut segments = Vec::new();
        for name in names.split('/').filter(|name| !name.is_empty()) {
            segments.push(if name == "**" { Segment::Folders } else { Segment::Name(tokens(pattern, name)?) });
        }
        if whole {
            segments.extend([Segment::Folders, Segment::Name(vec![Token::Many])]);
        }
        Ok(Self(segments))
    }

    /// Whether the pattern stands for the file at `path`, given by its segments.
    pub(super) fn matches(&self, path: &[&str]) -> bool {
        matches(&self.0, path, false)
    }

    /// Whether the pattern may stand for the file at `path`, or where that is a folder for one in it, hidden or not.
    pub(crate) fn reaches(&self, path: &[&str], is_folder: bool) -> bool {
        let mut names = path.iter();
        for segment in &self.0 {
            match (segment, names.next()) {
                (Segment::Folders, _) => return true,
                (Segment::Name(tokens), Some(name)) => {
                    if !name_matches(tokens, &name.chars().collect::<Vec<_>>()) {
                        return false;
                    }
                }
                (Segment::Name(_), None) => return is_folder,
            }
        }
        names.next().is_none() && !is_folder
    }

    /// Whether the pattern stands for a folder in which the file at `path` lies.
    pub(super) fn holds(&self, path: &[&str]) -> bool {
        matches(&self.0, path, true)
    }
}

fn tokens(pattern: &str, name: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = name.chars().peekable();
    while let Some(next) = rest.next() {
        tokens.push(match next {
            '*' => Token::Many,
            '?' => Token::One,
            '[' => {
                let without = rest.next_if(|next| matches!(next, '!' | '^')).is_some();
                let mut ranges = Vec::new();
                loop {
                    let Some(low) = rest.next() else {
                        invalid!("the pattern {pattern:?} has a [ without its ]; write [[] for the character itself")
                    };
                    if low == ']' && !ranges.is_empty() {
                        break;
                    }
                    let mut high = low;
                    let mut ahead = rest.clone();
                    if ahead.next() == Some('-')
                        && let Some(end) = ahead.next().filter(|end| *end != ']')
                    {
                        high = end;
                        rest = ahead;
                    }
                    ranges.push((low, high));
                }
                Token::Set { ranges, without }
            }
            next => Token::Char(next),
        });
    }
    Ok(tokens)
}

fn matches(pattern: &[Segment], path: &[&str], rest: bool) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => !rest,
        (None, Some((last, folders))) => rest && !is_hidden(last) && folders.iter().all(|name| !is_hidden(name)),
        (Some((Segment::Folders, after)), _) if matches(after, path, rest) => true,
        (Some((Segment::Folders, _)), Some((name, below))) => !is_hidden(name) && matches(pattern, below, rest),
        (Some((Segment::Name(tokens), after)), Some((name, below))) => {
            let shown =
                !is_hidden(name) || matches!(tokens.first(), Some(Token::Char(first)) if name.starts_with(*first));
            let name: Vec<char> = name.chars().collect();
            shown && name_matches(tokens, &name) && matches(after, below, rest)
        }
        (Some(_), None) => false,
    }
}

fn name_matches(pattern: &[Token], name: &[char]) -> bool {
    // Where the last `*` stood, and how much of the name it has taken: enough to go back to.
    let (mut at, mut taken, mut star) = (0, 0, None);
    while taken < name.len() {
        match pattern.get(at) {
            Some(Token::Many) => {
                star = Some((at, taken));
                at += 1;
            }
            Some(token) if is_one(token, name[taken]) => {
                at += 1;
                taken += 1;
            }
            _ => match star {
                Some((many, from)) => {
                    star = Some((many, from + 1));
                    (at, taken) = (many + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|token| *token == Token::Many)
}

fn is_one(token: &Token, character: char) -> bool {
    match token {
        Token::Char(wanted) => *wanted == character,
        Token::One => true,
        Token::Many => false,
        Token::Set { ranges, without } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *without
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(pattern: &str, path: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(&path.split('/').collect::<Vec<_>>())
    }

    #[test]
    fn a_star_stays_within_a_name_and_two_span_folders() {
        for (pattern, path, matches) in [
            ("*.csv", "a.csv", true),
            ("*.csv", "a/b.csv", false),
            ("*.csv", "day=1/b.csv", false),
            ("*/x.csv", "a/x.csv", true),
            ("**/*.csv", "x.csv", true),
            ("**/*.csv", "a/b/x.csv", true),
            ("a/**/x.csv", "a/x.csv", true),
            ("day=2026-01-0*/*.parquet", "day=2026-01-07/x.parquet", true),
            ("day=2026-01-0*/*.parquet", "day=2026-01-10/x.parquet", false),
            ("p[0-2].csv", "p1.csv", true),
            ("p[!0-2].csv", "p1.csv", false),
            ("p[[]1].csv", "p[1].csv", true),
            ("?.csv", "ä.csv", true),
            ("*a*b*", "xxaayybz", true),
            ("a/", "a/b/c.csv", true),
            ("*", "_hidden.csv", false),
            ("_*", "_hidden.csv", true),
            ("**/*.csv", "_tmp/x.csv", false),
            ("*/x.csv", ".git/x.csv", false),
        ] {
            assert_eq!(is(pattern, path), matches, "{pattern} and {path}");
        }
        assert!(Glob::parse("a[b.csv").unwrap_err().to_string().contains("a[b.csv"));
        assert!(Glob::parse("day=*").unwrap().holds(&["day=1", "x", "y.csv"]));
        assert!(!Glob::parse("day=*").unwrap().holds(&["day=1", "_x", "y.csv"]));
    }
}
