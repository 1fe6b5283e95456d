//! One line of N-Quads 1.2, read by the letter of its grammar, as far as this server writes it:
//! names in ASCII, no blank nodes, no languages, a graph on every line, one space between terms.

/// A quad.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quad {
    pub(super) subject: String,
    pub(super) predicate: String,
    pub(super) object: Term,
    pub(super) graph: String,
}

/// What may stand as an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Term {
    Iri(String),
    /// The text, and the type, which is `xsd:string` if none is written.
    Literal(String, String),
    Triple(Box<(String, String, Term)>),
}

impl Term {
    pub(super) fn iri(&self, start: &str) -> String {
        match self {
            Self::Iri(iri) => iri.strip_prefix(start).expect(start).to_owned(),
            other => panic!("{other:?} is no name"),
        }
    }

    pub(super) fn literal(&self, of: &str) -> String {
        match self {
            Self::Literal(said, datatype) if datatype == of => said.clone(),
            other => panic!("{other:?} is no {of}"),
        }
    }
}

pub(super) fn parse(line: &str) -> Result<Quad, String> {
    let mut rest = Rest(line);
    let subject = rest.iri()?;
    rest.take(" ")?;
    let predicate = rest.iri()?;
    rest.take(" ")?;
    let object = rest.term()?;
    rest.take(" ")?;
    let graph = rest.iri()?;
    rest.take(" .")?;
    if rest.0.is_empty() {
        Ok(Quad { subject, predicate, object, graph })
    } else {
        Err(format!("{:?} behind the end", rest.0))
    }
}

struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn take(&mut self, expected: &str) -> Result<(), String> {
        let rest = self.0.strip_prefix(expected);
        self.0 = rest.ok_or_else(|| format!("expected {expected:?} at {:?}", self.0))?;
        Ok(())
    }

    fn iri(&mut self) -> Result<String, String> {
        self.take("<")?;
        let (iri, rest) = self.0.split_once('>').ok_or("a name without an end")?;
        let forbidden = |c: char| {
            !c.is_ascii() || c <= ' ' || matches!(c, '<' | '"' | '{' | '}' | '|' | '^' | '`' | '\\')
        };
        if iri.contains(forbidden) || !iri.contains(':') {
            return Err(format!("{iri:?} is no absolute name"));
        }
        self.0 = rest;
        Ok(iri.to_owned())
    }

    fn term(&mut self) -> Result<Term, String> {
        if self.0.starts_with('"') {
            let said = self.string()?;
            let datatype = match self.take("^^") {
                Ok(()) => self.iri()?,
                Err(_) => "http://www.w3.org/2001/XMLSchema#string".to_owned(),
            };
            return Ok(Term::Literal(said, datatype));
        }
        if self.take("<<( ").is_err() {
            return self.iri().map(Term::Iri);
        }
        let subject = self.iri()?;
        self.take(" ")?;
        let predicate = self.iri()?;
        self.take(" ")?;
        let object = self.term()?;
        self.take(" )>>")?;
        Ok(Term::Triple(Box::new((subject, predicate, object))))
    }

    fn string(&mut self) -> Result<String, String> {
        self.take("\"")?;
        let mut said = String::new();
        let mut chars = self.0.chars();
        loop {
            match chars.next().ok_or("a text without an end")? {
                '"' => break,
                '\\' => {
                    let escaped = chars.next().ok_or("an escape without an end")?;
                    let mut code = |digits: usize| {
                        let hex: String = chars.by_ref().take(digits).collect();
                        let valid =
                            hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit());
                        let number = u32::from_str_radix(&hex, 16).ok().filter(|_| valid);
                        number.and_then(char::from_u32).ok_or(format!("{hex:?} is no character"))
                    };
                    said.push(match escaped {
                        't' => '\t',
                        'b' => '\u{8}',
                        'n' => '\n',
                        'r' => '\r',
                        'f' => '\u{c}',
                        '"' => '"',
                        '\'' => '\'',
                        '\\' => '\\',
                        'u' => code(4)?,
                        'U' => code(8)?,
                        other => return Err(format!("\\{other} is no escape")),
                    });
                }
                // Only three are forbidden by the grammar; that no other comes raw is our promise.
                c if c.is_control() => return Err(format!("{c:?} as it is")),
                c => said.push(c),
            }
        }
        self.0 = chars.as_str();
        Ok(said)
    }
}
