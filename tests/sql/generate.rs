//! Expressions, right, nearly right and wrong, and messages that make them decide.
//!
//! Most expressions follow the grammar, with operands that mostly keep the rules; some of those are then damaged, and a
//! few are a handful of tokens. Messages carry the properties that expressions like to name, with values from the same
//! stock as the literals, so that comparisons meet their limits.

/// An expression and the encoded properties of messages to ask it about.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) expression: String,
    pub(crate) messages: Vec<String>,
}

/// A source of questions that a seed repeats.
#[derive(Debug)]
pub(crate) struct Generator {
    state: u64,
}

const NAMES: &[&str] = &["a", "b", "c", "A", "_x", "$y", "a1", "TAGS", "KEYS", "isin", "nota", "a$_9", "Null1"];

const KEYWORDS: &[&str] =
    &["NOT", "AND", "OR", "BETWEEN", "IN", "TRUE", "FALSE", "NULL", "IS", "CONTAINS", "STARTSWITH", "ENDSWITH"];

/// Numbers as an expression writes them, those that it must refuse included.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "5",
    "10",
    "3.0",
    "5.",
    ".5",
    "1.5",
    "5E0",
    "1e1",
    "1.e1",
    ".5E+1",
    "5e-1",
    "2147483647",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "99999999999999999999",
    "10L",
    "10l",
    "0L",
    "007",
    "00.5",
    "1e308",
    "1e309",
    "1.7976931348623157E308",
    "4.9e-324",
    "1e-400",
    "0.0",
    "9007199254740993",
    "9007199254740992",
    "0x10",
    "1e",
    "1.5f",
    "16777217",
    "0.1",
    "123456789012",
    "1L2",
    "5e+",
    "1..2",
];

/// Values of properties, beside which every number above is one as well.
const VALUES: &[&str] = &[
    "1",
    "5",
    "-1",
    "+5",
    "10",
    "-0",
    "0",
    "0.5",
    "5.0",
    "abc",
    "ab",
    "a",
    "b",
    "it's",
    "true",
    "TRUE",
    "True",
    "false",
    "NaN",
    "-NaN",
    "Infinity",
    "-Infinity",
    "+Infinity",
    "infinity",
    "nan",
    "1e3",
    "1E-3",
    "0x1p3",
    "0X1.8P1",
    "0x.8p0",
    "0x1.fffffffffffff8p1023",
    "0x1p-1074",
    "0x1.8p-1075",
    "-0x1p-1076",
    "0x1",
    "0xp1",
    "0x1p",
    "0x10.p2d",
    "1f",
    "1d",
    "1.5D",
    "5L",
    "1 ",
    " 5",
    "\t5\n",
    "\u{a0}5",
    "1_000",
    "--5",
    "+-5",
    "-",
    "+",
    ".",
    "e5",
    "1e",
    "-2147483648",
    "-2147483649",
    "-9223372036854775808",
    "-9223372036854775809",
    "٣",
    "५",
    "１２",
    "\u{1d7d9}",
    "1٣",
    "ü",
    "日本",
    "😀",
    "x😀y",
    "%",
    "null",
    "NULL",
    "''",
    "a.b",
    "0x0p9999999999999",
    "0x1p9999999999999",
    "0x1p-9999999999999",
    "0x000000000000000000001p3",
    "0x1.00000000000008p0",
    "0x1.000000000000080000000000000001p0",
    "0x123456789abcdef01p0",
    "1e400",
    "1e-400",
    "000000000000000000000005",
    "9223372036854775807",
    "9223372036854775808",
    "1.",
    ".5",
    "5.e1",
];

const STRINGS: &[&str] = &[
    "''", "'a'", "'ab'", "'abc'", "'b'", "'it''s'", "''''", "'1'", "'5'", "'10'", "'true'", "'TRUE'", "'x y'", "'ü'",
    "'日本'", "'😀'", "'--'", "'/* */'", "'a", "'a''", "'a''b", "\"a\"", "'%'", "'a\nb'", "'null'", "'\\'",
];

const BLANKS: &[&str] = &[
    " ",
    " ",
    " ",
    " ",
    " ",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\u{c}",
    " /* x */ ",
    "/**/",
    "/***/",
    "/* a*b **/",
    " -- to the end\n",
    " --\r",
    "--x\r\n",
];

/// What no expression should hold, or not there.
const ODD: &[&str] = &[
    "!=", "!", "#", "/", "*", "/*", "--", "-- x", "'", "\"", ".", "..", ",", ";", "(", ")", "<", ">", "=", "==", "<>",
    "=>", "><", "||", "&&", "%", "LIKE", "ESCAPE", "\u{a0}", "\u{b}", "\u{85}", "\u{2028}", "ａ", "é", "😀", "\0",
    "a.b", "a-b", "@a", "[a]", "{", "1a", "+", "-", "\u{1f}", "\u{17f}", "\u{212a}", "İs", "ıN",
];

impl Generator {
    pub(crate) fn new(seed: u64) -> Generator {
        Generator { state: seed }
    }

    pub(crate) fn question(&mut self) -> Question {
        let expression = match self.below(20) {
            0 => self.tokens(),
            1..=4 => {
                let whole = self.condition(4);
                self.damaged(&whole)
            }
            5 => {
                let whole = self.condition(3);
                whole + self.pick(BLANKS) + &self.tokens()
            }
            _ => self.condition(4),
        };
        let messages = (0..4).map(|_| self.message()).collect();
        Question { expression, messages }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn once_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a>(&mut self, stock: &[&'a str]) -> &'a str {
        stock[self.below(stock.len())]
    }

    /// Joined by blanks, which are sometimes none.
    fn join(&mut self, parts: &[&str]) -> String {
        let mut whole = String::new();
        for (nth, part) in parts.iter().enumerate() {
            if nth > 0 && !self.once_in(60) {
                whole += self.pick(BLANKS);
            }
            whole += part;
        }
        whole
    }

    /// In any case, as keywords may be.
    fn keyword(&mut self, word: &str) -> String {
        match self.below(4) {
            0 => word.to_ascii_lowercase(),
            1 => word.chars().map(|c| if self.once_in(2) { c.to_ascii_lowercase() } else { c }).collect(),
            _ => word.to_owned(),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.leaf();
        }
        match self.below(12) {
            0..=2 => self.chain("AND", depth),
            3..=5 => self.chain("OR", depth),
            6 => {
                let inside = self.condition(depth - 1);
                let not = self.keyword("NOT");
                self.join(&[&not, "(", &inside, ")"])
            }
            7 => {
                let inside = self.condition(depth - 1);
                self.join(&["(", &inside, ")"])
            }
            8 => {
                let (left, right) = (self.condition(depth - 1), self.condition(depth - 1));
                let operator = self.pick(&["=", "<>"]);
                self.join(&["(", &left, ")", operator, "(", &right, ")"])
            }
            _ => self.leaf(),
        }
    }

    fn chain(&mut self, operator: &str, depth: usize) -> String {
        let mut whole = self.condition(depth - 1);
        for _ in 0..=self.below(3) {
            let (operator, next) = (self.keyword(operator), self.condition(depth - 1));
            whole = self.join(&[&whole, &operator, &next]);
        }
        whole
    }

    fn leaf(&mut self) -> String {
        let left = self.operand();
        match self.below(24) {
            0..=4 => {
                let (operator, right) = (self.pick(&["=", "<>", "="]), self.operand());
                self.join(&[&left, operator, &right])
            }
            5..=9 => {
                let operator = self.pick(&[">", ">=", "<", "<="]);
                let (left, right) = (self.size(), self.size());
                self.join(&[&left, operator, &right])
            }
            10..=12 => {
                let (is, not, null) = (self.keyword("IS"), self.maybe_not(), self.keyword("NULL"));
                self.join(&[&left, &is, &not, &null])
            }
            13..=15 => {
                let (between, and, not) = (self.keyword("BETWEEN"), self.keyword("AND"), self.maybe_not());
                let (value, low, high) = (self.size(), self.size(), self.size());
                self.join(&[&value, &not, &between, &low, &and, &high])
            }
            16..=17 => {
                let (not, is_in, list) = (self.maybe_not(), self.keyword("IN"), self.list());
                let left = if self.once_in(8) { left } else { self.pick(NAMES).to_owned() };
                self.join(&[&left, &not, &is_in, &list])
            }
            18..=21 => {
                let word = self.pick(&["CONTAINS", "STARTSWITH", "ENDSWITH"]);
                let (not, word, text) = (self.maybe_not(), self.keyword(word), self.text());
                self.join(&[&left, &not, &word, &text])
            }
            22 => {
                let (not, left) = (self.keyword("NOT"), self.truth());
                self.join(&[&not, &left])
            }
            _ if self.once_in(8) => left,
            _ => self.truth(),
        }
    }

    fn maybe_not(&mut self) -> String {
        if self.once_in(2) { self.keyword("NOT") } else { String::new() }
    }

    fn list(&mut self) -> String {
        let mut list = "(".to_owned();
        for nth in 0..=self.below(8) {
            list += if nth > 0 { "," } else { "" };
            list += &if self.once_in(60) { self.operand() } else { self.text() };
        }
        list + if self.once_in(60) { ",)" } else { ")" }
    }

    fn text(&mut self) -> String {
        if self.once_in(3) {
            let value = self.pick(VALUES).replace('\'', "''");
            return format!("'{value}'");
        }
        let known = if self.once_in(100) { STRINGS.len() } else { 18 };
        self.pick(&STRINGS[..known]).to_owned()
    }

    fn number(&mut self) -> String {
        match self.below(6) {
            0 => self.below(12).to_string(),
            1 if self.once_in(4) => (self.next() >> self.below(64)).to_string(),
            1 => format!("{}.{}", self.below(20), self.below(1000)),
            _ if self.once_in(24) => self.pick(NUMBERS).to_owned(),
            _ => self.pick(&NUMBERS[..12]).to_owned(),
        }
    }

    /// What may be compared by size, mostly.
    fn size(&mut self) -> String {
        match self.below(10) {
            0..=5 => self.pick(NAMES).to_owned(),
            6..=8 => self.signed(),
            _ if self.once_in(12) => self.operand(),
            _ => self.signed(),
        }
    }

    /// What may stand alone.
    fn truth(&mut self) -> String {
        match self.below(4) {
            0 => self.keyword("TRUE"),
            1 => self.keyword("NULL"),
            _ => self.pick(NAMES).to_owned(),
        }
    }

    fn signed(&mut self) -> String {
        let sign = if self.once_in(3) { self.pick(&["-", "+", "- ", "--", "- -", "-+"]) } else { "" };
        sign.to_owned() + &self.number()
    }

    fn operand(&mut self) -> String {
        match self.below(20) {
            0..=9 => self.pick(NAMES).to_owned(),
            10..=12 => self.signed(),
            13..=15 => self.text(),
            16 => self.keyword("TRUE"),
            17 => self.keyword("FALSE"),
            18 if self.once_in(12) => self.keyword("NULL"),
            18 => {
                let (sign, inside) = (self.pick(&["", "-", "+", "NOT "]), self.operand());
                format!("{sign}({inside})")
            }
            _ if self.once_in(12) => {
                let inside = self.leaf();
                let sign = self.pick(&["-", "+", "NOT"]);
                self.join(&[sign, "(", &inside, ")"])
            }
            _ => format!("-{}", self.pick(NAMES)),
        }
    }

    fn tokens(&mut self) -> String {
        let mut whole = String::new();
        for _ in 0..=self.below(8) {
            let token = match self.below(6) {
                0 => self.operand(),
                1..=2 => {
                    let word = self.pick(KEYWORDS);
                    self.keyword(word)
                }
                3 => self.text(),
                _ => self.pick(ODD).to_owned(),
            };
            whole = self.join(&[&whole, &token]);
        }
        whole
    }

    /// Something taken out, put in, doubled or exchanged.
    fn damaged(&mut self, whole: &str) -> String {
        let letters: Vec<char> = whole.chars().collect();
        let (from, len) = (self.below(letters.len() + 1), self.below(4));
        let to = (from + len).min(letters.len());
        let (head, middle, tail): (String, String, String) =
            (letters[..from].iter().collect(), letters[from..to].iter().collect(), letters[to..].iter().collect());
        let put = match self.below(4) {
            0 => String::new(),
            1 => middle.clone() + &middle,
            2 => self.pick(ODD).to_owned(),
            _ => self.pick(KEYWORDS).to_owned(),
        };
        match self.below(3) {
            0 => head + &put,
            _ => head + &put + &tail,
        }
    }

    fn message(&mut self) -> String {
        let mut properties = String::new();
        for name in NAMES {
            if self.once_in(3) {
                continue;
            }
            let value = match self.below(5) {
                0 => self.pick(NUMBERS).to_owned(),
                1 => self.below(12).to_string(),
                2 if self.once_in(3) => (self.next().cast_signed() >> self.below(64)).to_string(),
                _ => self.pick(VALUES).to_owned(),
            };
            properties += &format!("{name}\u{1}{value}\u{2}");
        }
        if self.once_in(20) {
            properties += self.pick(&[
                "a\u{1}",
                "\u{2}\u{2}",
                "a",
                "a\u{1}9",
                "\u{1}b\u{2}",
                "b\u{1}\u{2}",
                "a\u{1}1\u{1}2\u{2}",
            ]);
        }
        properties
    }
}
