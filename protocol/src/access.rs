//! The access file: who may ask for what.

use std::collections::{BTreeSet, HashMap};

use crate::account::{Accounts, to_lower_case};
use crate::line_problem::{LineProblem, Problem, field_lines};
use crate::operation::{Operation, OperationSet};
use crate::request::{ANONYMOUS_USER, User};

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
    /// granted something only by `all`. Lines that are no rules are skipped and told, and so are operations that do
    /// not exist.
    pub fn parse(text: &[u8], accounts: &Accounts) -> (Self, Vec<LineProblem>) {
        let mut list = Self {
            anonymous: Grants::default(),
            named: HashMap::new(),
        };
        let problems = field_lines(text)
            .filter_map(|(line, fields)| {
                let problem = list.apply(fields, accounts)?;
                Some(LineProblem { line, problem })
            })
            .collect();
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

    fn apply(&mut self, fields: Option<[&[u8]; 3]>, accounts: &Accounts) -> Option<Problem> {
        let Some(rule) = fields.and_then(Rule::read) else {
            return Some(Problem::NotARule);
        };
        if rule.users == ALL {
            accounts.names().for_each(|user| self.change(user, &rule));
        } else {
            words(&rule.users).for_each(|user| self.change(user, &rule));
        }
        (!rule.unknown.is_empty()).then_some(Problem::UnknownOperation)
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

/// A line of the access file, in lower case.
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
    let known = words(field).filter_map(Operation::from_name).collect();
    let unknown = words(field)
        .filter(|name| Operation::from_name(name).is_none())
        .map(Into::into)
        .collect();
    (known, unknown)
}

fn words(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: User<'_> = User::Named(b"bob");
    const ALICE: User<'_> = User::Named(b"Alice");

    fn parse(text: &str) -> AccessList {
        let (accounts, _) = Accounts::parse(b"bob : 1\nAlice : 2");
        let (list, problems) = AccessList::parse(text.as_bytes(), &accounts);
        assert_eq!(problems, []);
        list
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
            &Accounts::default(),
        );
        assert_eq!(
            problems
                .iter()
                .map(|told| (told.line, told.problem))
                .collect::<Vec<_>>(),
            [
                (1, Problem::UnknownOperation),
                (2, Problem::UnknownOperation)
            ]
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
        let lines: Vec<_> = problems.iter().map(|told| told.line).collect();
        assert_eq!(lines, [2, 3, 5]);
        assert!(
            problems
                .iter()
                .all(|told| told.problem == Problem::NotARule)
        );
        assert_eq!(granted(&list, BOB), "");
    }
}
