//! The access file: who may ask for what.

use std::collections::{BTreeSet, HashMap};

use crate::account::{Accounts, to_lower_case};
use crate::line_problem::{LineProblem, Problem, field_lines};
use crate::operation::{Operation, OperationSet};
use crate::request::{ANONYMOUS_USER, User};
use crate::text::words;

/// Users of one line that are told at most.
const MAX_USERS_TOLD: usize = 8;

/// Which operations are granted to which users. What is not granted is denied.
#[derive(Clone, Debug)]
pub struct AccessList {
    /// Apart from the others, since almost every request is looked up here.
    anonymous: Grants,
    named: HashMap<Box<[u8]>, Grants>,
}

/// What one user may ask for.
#[derive(Clone, Debug, Default)]
struct Grants {
    operations: OperationSet,
    /// Granted, and no operations: asking for them is refused in another way.
    unknown: BTreeSet<Box<[u8]>>,
}

/// Stands for every operation, or for every account, where it is the whole field.
const ALL: &[u8] = b"all";

impl AccessList {
    /// Reads an access file: `operations : users : allow` or `deny` on each line, whatever the case, `#` in the
    /// first column for comments.
    ///
    /// Lines hold in their order, so the last one that speaks of a user and an operation decides. All users are the
    /// accounts there are, without the anonymous one. Names are taken in lower case: an account with capitals is
    /// granted something only by `all`. Lines that are no rules are skipped and told, and so is what does nothing:
    /// operations that do not exist, users without an account, lines that were there before.
    pub fn parse(text: &[u8], accounts: &Accounts) -> (Self, Vec<LineProblem>) {
        let mut list = Self {
            anonymous: Grants::default(),
            named: HashMap::new(),
        };
        let mut lookout = Lookout::new(accounts);
        let mut problems = Vec::new();
        for (line, fields) in field_lines(text) {
            let mut tell = |problem| problems.push(LineProblem { line, problem });
            let Some(rule) = fields.and_then(Rule::read) else {
                tell(Problem::NotARule);
                continue;
            };
            list.apply(&rule, accounts);
            lookout.look_at(line, rule, tell);
        }
        (list, problems)
    }

    /// Whether `user` may ask for `operation`.
    pub fn permits(&self, user: User<'_>, operation: Operation) -> bool {
        self.of(user)
            .is_some_and(|grants| grants.operations.contains(operation))
    }

    /// Whether `user` was granted `op`, which is no operation: [`crate::Refusal::NotImplemented`] is due
    /// then instead of [`crate::Refusal::Forbidden`].
    pub fn permits_unknown(&self, user: User<'_>, op: &[u8]) -> bool {
        self.of(user)
            .is_some_and(|grants| grants.unknown.contains(op))
    }

    fn of(&self, user: User<'_>) -> Option<&Grants> {
        match user {
            User::Anonymous => Some(&self.anonymous),
            User::Named(name) => self.named.get(name),
        }
    }

    fn apply(&mut self, rule: &Rule, accounts: &Accounts) {
        if rule.users == ALL {
            accounts.names().for_each(|user| self.change(user, rule));
        } else {
            for user in words(&rule.users) {
                self.change(user, rule);
            }
        }
    }

    fn change(&mut self, user: &[u8], rule: &Rule) {
        let grants = match user {
            ANONYMOUS_USER => &mut self.anonymous,
            _ => self.named.entry(user.into()).or_default(),
        };
        if rule.allow {
            grants.operations = grants.operations.union(rule.operations);
            grants.unknown.extend(rule.unknown.iter().cloned());
        } else {
            grants.operations = grants.operations.without(rule.operations);
            grants.unknown.retain(|op| !rule.unknown.contains(op));
        }
    }
}

/// What holds without an access file: anybody may do everything but whitelist.
impl Default for AccessList {
    fn default() -> Self {
        let operations = [
            Operation::Check,
            Operation::Report,
            Operation::Ping,
            Operation::Pong,
            Operation::Info,
        ];
        Self {
            anonymous: Grants {
                operations: operations.into_iter().collect(),
                unknown: BTreeSet::new(),
            },
            named: HashMap::new(),
        }
    }
}

/// Sees what rules do nothing, in whole or in part.
struct Lookout<'a> {
    accounts: &'a Accounts,
    /// Accounts that are written with capitals, by their names in lower case.
    with_capitals: HashMap<Vec<u8>, &'a [u8]>,
    /// The last rule, and its line.
    previous: Option<(Rule, usize)>,
}

impl<'a> Lookout<'a> {
    fn new(accounts: &'a Accounts) -> Self {
        let names = accounts.names().map(|name| (to_lower_case(name), name));
        Self {
            accounts,
            with_capitals: names.filter(|(lower, name)| lower != name).collect(),
            previous: None,
        }
    }

    fn look_at(&mut self, line: usize, rule: Rule, mut tell: impl FnMut(Problem)) {
        if !rule.unknown.is_empty() {
            tell(Problem::UnknownOperation);
        } else if rule.operations.is_empty() {
            tell(Problem::NoOperation);
        }
        if rule.users == ALL {
            if self.accounts.names().next().is_none() {
                tell(Problem::NoAccounts);
            }
        } else if rule.users.is_empty() {
            tell(Problem::NoUser);
        } else {
            let doubts = words(&rule.users)
                .into_iter()
                .filter_map(|user| self.doubt(user));
            doubts.take(MAX_USERS_TOLD).for_each(&mut tell);
        }
        // With another rule in between, the same one may count again: the last one decides.
        if let Some((earlier, line)) = &self.previous
            && *earlier == rule
        {
            tell(Problem::Repeated(*line));
        }
        self.previous = Some((rule, line));
    }

    /// Why a name in a rule means nobody.
    fn doubt(&self, user: &[u8]) -> Option<Problem> {
        let shown = |user| String::from_utf8_lossy(user).escape_debug().to_string();
        if user == ANONYMOUS_USER {
            None
        } else if self.accounts.get(user).is_some() {
            (!user.is_ascii()).then_some(Problem::BeyondAscii)
        } else if let Some(account) = self.with_capitals.get(user) {
            Some(Problem::Capitals(shown(account)))
        } else if user == ALL {
            Some(Problem::AllAmongOthers)
        } else {
            Some(Problem::NoAccount(shown(user)))
        }
    }
}

/// A line of the access file, in lower case.
#[derive(PartialEq, Eq)]
struct Rule {
    operations: OperationSet,
    unknown: Vec<Box<[u8]>>,
    users: Vec<u8>,
    allow: bool,
}

impl Rule {
    fn read(fields: [&[u8]; 3]) -> Option<Self> {
        let [operations, users, verdict] = fields.map(to_lower_case);
        let allow = match &verdict[..] {
            b"allow" => true,
            b"deny" => false,
            _ => return None,
        };
        let (operations, unknown) = read_operations(&operations);
        Some(Self {
            operations,
            unknown,
            users,
            allow,
        })
    }
}

fn read_operations(field: &[u8]) -> (OperationSet, Vec<Box<[u8]>>) {
    if field == ALL {
        return (OperationSet::ALL, Vec::new());
    }
    let words = words(field);
    let known = words
        .iter()
        .copied()
        .filter_map(Operation::from_name)
        .collect();
    let unknown = words
        .into_iter()
        .filter(|name| Operation::from_name(name).is_none())
        .map(Into::into)
        .collect();
    (known, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: User<'_> = User::Named(b"bob");
    const ALICE: User<'_> = User::Named(b"Alice");

    fn parse(text: &str) -> AccessList {
        let (accounts, _) = Accounts::parse(b"bob : 1\nAlice : 2");
        let (list, problems) = AccessList::parse(text.as_bytes(), &accounts);
        assert!(
            !told(&problems).contains(&Problem::NotARule),
            "{problems:?}"
        );
        list
    }

    fn told(problems: &[LineProblem]) -> Vec<Problem> {
        problems.iter().map(|told| told.problem.clone()).collect()
    }

    #[test]
    fn what_does_nothing_is_told() {
        let (accounts, _) = Accounts::parse("bob : 1\nAlice : 2\nren\u{e9} : 3".as_bytes());
        let none = Accounts::default();
        let no_account = |name: &str| Problem::NoAccount(name.to_owned());
        for (text, accounts, expected) in [
            (
                "all : all : allow\nping : anonymous bob : deny",
                &accounts,
                vec![],
            ),
            (
                "check : bob eve : allow",
                &accounts,
                vec![no_account("eve")],
            ),
            (
                "check : Eve\u{1b} : allow",
                &accounts,
                vec![no_account("eve\\u{1b}")],
            ),
            (
                "check : alice : deny",
                &accounts,
                vec![Problem::Capitals("Alice".to_owned())],
            ),
            (
                "ping : ren\u{e9} : allow",
                &accounts,
                vec![Problem::BeyondAscii],
            ),
            (
                "ping : bob all : allow",
                &accounts,
                vec![Problem::AllAmongOthers],
            ),
            ("ping : ALL : allow", &none, vec![Problem::NoAccounts]),
            ("ping : : allow", &none, vec![Problem::NoUser]),
            (" : bob : allow", &accounts, vec![Problem::NoOperation]),
            (
                "ping : bob : allow\nPING:BOB:Allow",
                &accounts,
                vec![Problem::Repeated(1)],
            ),
            // The third one decides.
            (
                "all:bob:allow\nping:bob:deny\nall:bob:allow",
                &accounts,
                Vec::new(),
            ),
        ] {
            let (_, problems) = AccessList::parse(text.as_bytes(), accounts);
            assert_eq!(told(&problems), expected, "{text:?}");
        }
        let many = format!("ping : {} : allow", "a b c ".repeat(100));
        let (_, problems) = AccessList::parse(many.as_bytes(), &accounts);
        assert_eq!(problems.len(), MAX_USERS_TOLD);
    }

    #[test]
    fn fields_are_trimmed_as_python_trims_them() {
        let list = parse(
            "\u{feff}ping\u{a0}:\u{2028}bob\u{a0}anonymous : allow\u{2028}\r# x\rpong:bob:allow",
        );
        assert_eq!(granted(&list, BOB), "ping pong");
        assert_eq!(granted(&list, User::Anonymous), "ping");
    }

    fn granted(list: &AccessList, user: User<'_>) -> String {
        let names: Vec<_> = Operation::ALL
            .into_iter()
            .filter(|&operation| list.permits(user, operation))
            .map(Operation::name)
            .collect();
        names.join(" ")
    }

    #[test]
    fn without_a_file_anybody_may_do_all_but_whitelist() {
        let list = AccessList::default();
        assert_eq!(
            granted(&list, User::Anonymous),
            "ping pong check info report"
        );
        assert_eq!(granted(&list, BOB), "");
    }

    #[test]
    fn an_empty_file_grants_nothing() {
        assert_eq!(granted(&parse(""), User::Anonymous), "");
    }

    #[test]
    fn the_last_match_wins() {
        let list = parse("ALL : bob : allow\npong info : Bob carl : DENY\ninfo : bob : Allow");
        assert_eq!(granted(&list, BOB), "ping check info report whitelist");
    }

    #[test]
    fn all_users_are_the_accounts_as_they_are_written() {
        let list = parse("check : all : allow\nping : Alice bob : allow");
        assert_eq!(granted(&list, ALICE), "check");
        assert_eq!(granted(&list, BOB), "ping check");
        assert_eq!(granted(&list, User::Anonymous), "");
        assert_eq!(granted(&list, User::Named(b"zorro")), "");
    }

    #[test]
    fn all_is_a_name_like_any_other_among_others() {
        let list = parse("ping : all zorro : allow");
        assert_eq!(granted(&list, BOB), "");
        assert_eq!(granted(&list, User::Named(b"all")), "ping");
    }

    #[test]
    fn operations_that_do_not_exist_are_told_and_remembered() {
        let (list, problems) = AccessList::parse(
            b"frob all ping : bob : allow\nfrob:bob:deny",
            &Accounts::parse(b"bob : 1").0,
        );
        assert_eq!(
            told(&problems),
            [Problem::UnknownOperation, Problem::UnknownOperation]
        );
        assert_eq!(granted(&list, BOB), "ping");
        assert!(list.permits_unknown(BOB, b"all"));
        assert!(!list.permits_unknown(BOB, b"frob"));
        assert!(!list.permits_unknown(BOB, b"ping"));
        assert!(!list.permits_unknown(User::Anonymous, b"all"));
    }

    #[test]
    fn invalid_lines_are_skipped_and_told() {
        let text = b"# x\nping : bob\nping : bob : maybe\n\nping:bob:allow:x\ncheck : : allow\n: bob : allow";
        let (list, problems) = AccessList::parse(text, &Accounts::default());
        let skipped = problems
            .iter()
            .filter(|told| told.problem == Problem::NotARule);
        let lines: Vec<_> = skipped.map(|told| told.line).collect();
        assert_eq!(lines, [2, 3, 5]);
        assert_eq!(granted(&list, BOB), "");
    }
}
