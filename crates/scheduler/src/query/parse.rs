//! From an expression's text to what it means.

use ecs::Timestamp;
use regex::RegexBuilder;

use super::{Check, Comparison, Expression, Subject};

/// "Length constraints: maximum length of 2000" for a constraint's expression.
pub const MAX_EXPRESSION_CHARACTERS: usize = 2000;
/// Of parentheses and negations in each other.
const MAX_DEPTH: usize = 50;
/// Bytes of one compiled pattern.
const MAX_PATTERN_BYTES: usize = 64 << 10;

/// How a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("the expression has {characters} characters; at most {MAX_EXPRESSION_CHARACTERS} are allowed")]
    TooLong { characters: usize },
    #[error("the expression is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("at character {at}: {wanted}")]
    Syntax { at: usize, wanted: &'static str },
    #[error(
        "at character {at}: {given:?} is nothing that can be asked about; there are agentConnected, agentVersion, attribute:NAME, ec2InstanceId, registeredAt, runningTasksCount and task:group"
    )]
    Subject { at: usize, given: String },
    #[error("at character {at}: {given:?} is no operator")]
    Operator { at: usize, given: String },
    #[error("at character {at}: the pattern {given:?} cannot be read")]
    Pattern { at: usize, given: String },
    #[error("at character {at}: {given:?} is no date; write 2018-06-18 or 2018-06-18T22:28:28Z")]
    Date { at: usize, given: String },
}

pub(super) fn parse(text: &str) -> Result<Expression, QueryError> {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() > MAX_EXPRESSION_CHARACTERS {
        return Err(QueryError::TooLong { characters: characters.len() });
    }
    let mut reader = Reader { text: &characters, at: 0 };
    let expression = reader.any(0)?;
    reader.space();
    if reader.at < characters.len() { Err(reader.wanted("the expression should end here")) } else { Ok(expression) }
}

struct Reader<'a> {
    text: &'a [char],
    at: usize,
}

impl Reader<'_> {
    fn any(&mut self, depth: usize) -> Result<Expression, QueryError> {
        let mut parts = vec![self.all(depth)?];
        while self.symbol("||") || self.word("or") {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Expression, QueryError> {
        let mut parts = vec![self.not(depth)?];
        while self.symbol("&&") || self.word("and") {
            parts.push(self.not(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
    }

    fn not(&mut self, depth: usize) -> Result<Expression, QueryError> {
        if depth > MAX_DEPTH {
            return Err(QueryError::TooDeep);
        }
        if self.symbol("!") || self.word("not") {
            return Ok(Expression::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.symbol("(") {
            let inner = self.any(depth + 1)?;
            return if self.symbol(")") { Ok(inner) } else { Err(self.wanted("a closing parenthesis is missing")) };
        }
        self.test()
    }

    fn test(&mut self) -> Result<Expression, QueryError> {
        let subject = self.subject()?;
        let check = self.check(&subject)?;
        Ok(Expression::Test(subject, check))
    }

    fn subject(&mut self) -> Result<Subject, QueryError> {
        self.space();
        let at = self.at + 1;
        let given = self.take_while(|character| !character.is_whitespace() && !"()[],=!<>&|".contains(*character));
        let subject = match given.as_str() {
            "agentConnected" => Subject::AgentConnected,
            "agentVersion" => Subject::AgentVersion,
            "ec2InstanceId" => Subject::Ec2InstanceId,
            "registeredAt" => Subject::RegisteredAt,
            "runningTasksCount" => Subject::RunningTasksCount,
            "task:group" => Subject::TaskGroup,
            "" => {
                return Err(QueryError::Syntax {
                    at,
                    wanted: "something to ask about should be here, as attribute:ecs.os-type",
                });
            }
            other => match other.strip_prefix("attribute:").filter(|name| !name.is_empty()) {
                Some(name) => Subject::Attribute(name.to_owned()),
                None => return Err(QueryError::Subject { at, given }),
            },
        };
        Ok(subject)
    }

    fn check(&mut self, subject: &Subject) -> Result<Check, QueryError> {
        self.space();
        let at = self.at + 1;
        // The longer ones first, so that `>=` is never read as `>`.
        for (sign, name) in [
            ("==", "equals"),
            ("!=", "not_equals"),
            (">=", "greater_than_equal"),
            ("<=", "less_than_equal"),
            ("=~", "matches"),
            ("!~", "not_matches"),
            (">", "greater_than"),
            ("<", "less_than"),
            ("!exists", "not_exists"),
            ("!in", "not_in"),
        ] {
            let sign_is_word = sign.ends_with(char::is_alphabetic);
            if (sign_is_word && self.word(sign)) || (!sign_is_word && self.symbol(sign)) {
                return self.operator(name, subject);
            }
        }
        let name = self.take_while(|character| character.is_alphabetic() || *character == '_');
        match name.as_str() {
            "equals" | "not_equals" | "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal"
            | "matches" | "not_matches" | "exists" | "not_exists" | "in" | "not_in" => self.operator(&name, subject),
            "" => Err(QueryError::Syntax { at, wanted: "an operator should be here, as == or exists" }),
            _ => Err(QueryError::Operator { at, given: name }),
        }
    }

    fn operator(&mut self, name: &str, subject: &Subject) -> Result<Check, QueryError> {
        Ok(match name {
            "exists" => Check::Exists,
            "not_exists" => Check::NotExists,
            "in" => Check::In(self.list(subject)?),
            "not_in" => Check::NotIn(self.list(subject)?),
            "equals" => Check::Equals(self.argument(subject)?),
            "not_equals" => Check::NotEquals(self.argument(subject)?),
            "matches" => Check::Matches(self.pattern()?),
            "not_matches" => Check::NotMatches(self.pattern()?),
            "greater_than" => Check::Compare(Comparison::Greater, self.argument(subject)?),
            "greater_than_equal" => Check::Compare(Comparison::GreaterEqual, self.argument(subject)?),
            "less_than" => Check::Compare(Comparison::Less, self.argument(subject)?),
            _ => Check::Compare(Comparison::LessEqual, self.argument(subject)?),
        })
    }

    /// `[a, b]`, or one value alone.
    fn list(&mut self, subject: &Subject) -> Result<Vec<String>, QueryError> {
        if !self.symbol("[") {
            return Ok(vec![self.argument(subject)?]);
        }
        let mut values = vec![self.argument(subject)?];
        while self.symbol(",") {
            values.push(self.argument(subject)?);
        }
        if self.symbol("]") { Ok(values) } else { Err(self.wanted("a closing bracket is missing")) }
    }

    fn argument(&mut self, subject: &Subject) -> Result<String, QueryError> {
        self.space();
        let at = self.at + 1;
        let value = match self.quoted()? {
            Some(quoted) => quoted,
            None => self.take_while(|character| !character.is_whitespace() && !"()[],&|'\"".contains(*character)),
        };
        if value.is_empty() {
            return Err(QueryError::Syntax { at, wanted: "a value should be here" });
        }
        if *subject == Subject::RegisteredAt && Timestamp::from_rfc3339(&value).is_none() {
            return Err(QueryError::Date { at, given: value });
        }
        Ok(value)
    }

    /// Up to the next space, or to a parenthesis that the pattern has not opened itself.
    fn pattern(&mut self) -> Result<regex::Regex, QueryError> {
        self.space();
        let at = self.at + 1;
        let given = match self.quoted()? {
            Some(quoted) => quoted,
            None => {
                let mut open = 0_usize;
                self.take_while(|character| {
                    match character {
                        '(' => open += 1,
                        ')' if open == 0 => return false,
                        ')' => open -= 1,
                        _ => {}
                    }
                    !character.is_whitespace()
                })
            }
        };
        if given.is_empty() {
            return Err(QueryError::Syntax { at, wanted: "a pattern should be here" });
        }
        // As Java's `matches`: the whole value.
        let pattern = RegexBuilder::new(&format!("^(?:{given})$")).size_limit(MAX_PATTERN_BYTES).build();
        pattern.map_err(|_| QueryError::Pattern { at, given })
    }

    fn quoted(&mut self) -> Result<Option<String>, QueryError> {
        let Some(quote) = self.text.get(self.at).copied().filter(|quote| ['\'', '"'].contains(quote)) else {
            return Ok(None);
        };
        self.at += 1;
        let value = self.take_while(|character| *character != quote);
        if self.at == self.text.len() {
            return Err(self.wanted("a closing quotation mark is missing"));
        }
        self.at += 1;
        Ok(Some(value))
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.space();
        let found =
            symbol.chars().enumerate().all(|(index, character)| self.text.get(self.at + index) == Some(&character));
        // `!=` and its like are operators of their own, never a negation.
        let negation = symbol == "!" && matches!(self.text.get(self.at + 1), Some('=' | '~'));
        if found && !negation {
            self.at += symbol.chars().count();
        }
        found && !negation
    }

    /// A word in any case, and not the beginning of a longer one.
    fn word(&mut self, word: &str) -> bool {
        self.space();
        let end = self.at + word.chars().count();
        let here = self.text.get(self.at..end);
        let found = here.is_some_and(|here| here.iter().collect::<String>().eq_ignore_ascii_case(word))
            && !self.text.get(end).is_some_and(|next| next.is_alphanumeric() || "_:.-".contains(*next));
        if found {
            self.at = end;
        }
        found
    }

    fn take_while(&mut self, mut belongs: impl FnMut(&char) -> bool) -> String {
        let from = self.at;
        while self.text.get(self.at).is_some_and(&mut belongs) {
            self.at += 1;
        }
        self.text[from..self.at].iter().collect()
    }

    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(|character| character.is_whitespace()) {
            self.at += 1;
        }
    }

    fn wanted(&self, wanted: &'static str) -> QueryError {
        QueryError::Syntax { at: self.at + 1, wanted }
    }
}
