//! How the first administrator comes in: a code that the managers print, worth one account, once.
//!
//! ```text
//!   founding makes a code ─► its hash in every founder's folder ─► unspent ── the right code ──► spent, and somebody is administrator
//!                                                                     ▲                               │
//!                                                                     └── anew, on a manager's machine┘
//! ```
//! What is replicated is a hash. A cluster that was founded with an administrator's token has no code, and one that was founded
//! before there were codes has none either.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use super::{Caller, Token, User, UserWish, create_user};
use crate::{CLUSTER, Refusal, Ruling};

/// Whoever the first administrator was made by. No user has a name with a space in it.
pub const SETUP: &str = "setup code";

/// Characters in a code: 100 bits are not guessed.
pub const SETUP_CODE_CHARS: usize = 20;

/// Characters between two dashes.
const GROUP_CHARS: usize = 5;

/// Douglas Crockford's Base32: no letter is taken for a digit, and no word comes about that nobody wants to read aloud.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The one code of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// What [`setup_code_hash`] makes of the code; nothing once it is spent.
    hash: Vec<u8>,
    /// Since when there is one.
    created_at: Timestamp,
    /// When it was spent.
    spent_at: Option<Timestamp>,
}

impl Record for Setup {
    const TABLE: &'static str = "setup";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        Setup::ID.into()
    }
}

impl Setup {
    const ID: &str = "first-administrator";

    fn unspent(hash: &[u8], now: Timestamp) -> Setup {
        Setup { hash: hash.into(), created_at: now, spent_at: None }
    }
}

/// How far a cluster is with its first administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupState {
    /// The managers have not begun yet: there is neither a code nor anybody.
    Unfounded,
    /// Whoever has the code becomes administrator.
    Open,
    /// Somebody is administrator.
    Done,
}

/// The code that these random bytes make, in groups that can be read aloud.
pub fn setup_code(random: &[u8; SETUP_CODE_CHARS]) -> String {
    let chars: Vec<char> = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
    let groups: Vec<String> = chars.chunks(GROUP_CHARS).map(|group| group.iter().collect()).collect();
    groups.join("-")
}

/// What is kept of a code, however it was typed: case, dashes and spaces do not count, and `I`, `L` and `O` are the digits that
/// they look like. `None` if it cannot be one.
pub fn setup_code_hash(code: &str) -> Option<Vec<u8>> {
    let typed = code.chars().filter(|c| *c != '-' && !c.is_whitespace());
    let read = typed.map(|c| match c.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        c => c,
    });
    let chars: String = read.take(SETUP_CODE_CHARS + 1).collect();
    let known = chars.bytes().all(|byte| ALPHABET.contains(&byte));
    (known && chars.len() == SETUP_CODE_CHARS).then(|| digest(&SHA256, chars.as_bytes()).as_ref().to_vec())
}

/// How far the cluster is.
pub fn setup_state(view: &View) -> Ruling<SetupState> {
    let setup = view.get::<Setup>(CLUSTER, Setup::ID)?;
    Ok(match setup {
        Some(setup) if setup.spent_at.is_none() => SetupState::Open,
        None if view.list::<Token>(CLUSTER)?.is_empty() && view.list::<User>(CLUSTER)?.is_empty() => {
            SetupState::Unfounded
        }
        Some(_) | None => SetupState::Done,
    })
}

/// Records the code of a new cluster. Repeating it changes nothing.
pub fn bootstrap_setup(tx: &mut Tx<'_>, hash: &[u8]) -> Ruling<bool> {
    let is_new = is_new(tx)?;
    if is_new {
        tx.put(&Setup::unspent(hash, tx.now()));
    }
    Ok(is_new)
}

/// Puts another code in the place of the one before, spent or not: for whoever works on a manager's machine, where everything
/// that the cluster keeps secret lies anyway, and for nobody who asks over a network.
pub fn renew_setup(tx: &mut Tx<'_>, hash: &[u8]) -> Ruling<()> {
    tx.put(&Setup::unspent(hash, tx.now()));
    Ok(())
}

/// Would this code be taken?
pub fn ensure_setup_code(view: &View, hash: Option<&[u8]>) -> Ruling<()> {
    takes(view.get::<Setup>(CLUSTER, Setup::ID)?.map(|setup| setup.record), hash)
}

/// Spends the code and makes the first administrator.
pub fn set_up(tx: &mut Tx<'_>, hash: Option<&[u8]>, wish: &UserWish) -> Ruling<User> {
    takes(tx.get::<Setup>(CLUSTER, Setup::ID)?.map(|setup| setup.record), hash)?;
    let wish = UserWish { admin: true, ..wish.clone() };
    let user = create_user(tx, &Caller::administrator(SETUP), &wish)?;
    spend(tx)?;
    Ok(user)
}

/// Somebody else came in as administrator: the code is worth nothing any more.
pub(super) fn spend(tx: &mut Tx<'_>) -> Ruling<()> {
    let setup = tx.get::<Setup>(CLUSTER, Setup::ID)?.map(|setup| setup.record);
    if let Some(setup) = setup.filter(|setup| setup.spent_at.is_none()) {
        tx.put(&Setup { hash: vec![], spent_at: Some(tx.now()), ..setup });
    }
    Ok(())
}

/// Has nothing been there yet that somebody could come in with? A cluster whose administrator has signed out has no token either.
pub(super) fn is_new(tx: &mut Tx<'_>) -> Ruling<bool> {
    Ok(tx.get::<Setup>(CLUSTER, Setup::ID)?.is_none()
        && tx.list::<Token>(CLUSTER)?.is_empty()
        && tx.list::<User>(CLUSTER)?.is_empty())
}

fn takes(setup: Option<Setup>, hash: Option<&[u8]>) -> Ruling<()> {
    let Some(setup) = setup.filter(|setup| setup.spent_at.is_none()) else {
        return Err(Refusal::SetupDone);
    };
    match verify_slices_are_equal(&setup.hash, hash.unwrap_or_default()) {
        Ok(()) => Ok(()),
        Err(_) => Err(Refusal::SetupCodeWrong),
    }
}

#[cfg(test)]
mod tests {
    use skep_ledger::{Ledger as _, MemoryLedger, Request, TransactError, transact};
    use uuid::Uuid;

    use super::super::{ActsAs, TokenKind, TokenWish};
    use super::super::{bootstrap, create_token, revoke_token};
    use super::*;
    use crate::ids::UserId;

    const CODE: &str = "00000-11111-22222-ABCDE";

    async fn done<A: Serialize + for<'de> Deserialize<'de> + Send>(
        ledger: &MemoryLedger,
        rule: impl FnMut(&mut Tx<'_>) -> Ruling<A> + Send,
    ) -> Result<A, Refusal> {
        match transact(ledger, Request::new(), rule).await {
            Ok(committed) => Ok(committed.answer),
            Err(TransactError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    fn wish(name: &str) -> UserWish {
        UserWish { id: UserId::new(Uuid::now_v7()), name: name.into(), password: "x".into(), admin: false }
    }

    fn hash(code: &str) -> Vec<u8> {
        setup_code_hash(code).expect("is a code")
    }

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let code = setup_code(&std::array::from_fn(|at| at as u8 * 13));
        assert_eq!((code.len(), code.matches('-').count()), (SETUP_CODE_CHARS + 3, 3), "{code}");
        for typed in
            [code.to_lowercase(), code.replace('-', ""), code.replace('-', " "), format!(" {code}\n")]
        {
            assert_eq!(setup_code_hash(&typed), setup_code_hash(&code), "{typed}");
        }
        assert_eq!(hash("OOOOO-IIlll-22222-abcde"), hash(CODE));
        for wrong in
            ["", "00000", "00000-11111-22222-ABCDU", "00000-11111-22222-ABCDE-F", "00000-11111-22222-ABCDé"]
        {
            assert_eq!(setup_code_hash(wrong), None, "{wrong}");
        }
        assert_ne!(setup_code(&[1; SETUP_CODE_CHARS]), setup_code(&[2; SETUP_CODE_CHARS]));
    }

    #[tokio::test]
    async fn the_code_is_worth_one_administrator() {
        let ledger = MemoryLedger::new();
        let state = || setup_state(&ledger.view()).expect("reads");
        assert_eq!(state(), SetupState::Unfounded);
        let early = done(&ledger, |tx| set_up(tx, Some(&hash(CODE)), &wish("ann"))).await;
        assert_eq!(early, Err(Refusal::SetupDone), "without a code nobody comes in");
        assert_eq!(done(&ledger, |tx| bootstrap_setup(tx, &hash(CODE))).await, Ok(true));
        assert_eq!(state(), SetupState::Open);
        for wrong in [None, Some(vec![]), Some(hash("00000-11111-22222-ABCDF"))] {
            let refused = done(&ledger, |tx| set_up(tx, wrong.as_deref(), &wish("ann"))).await;
            assert_eq!(refused, Err(Refusal::SetupCodeWrong));
        }
        let ann = done(&ledger, |tx| set_up(tx, Some(&hash(CODE)), &wish("ann"))).await.expect("comes in");
        assert_eq!((ann.name.as_str(), ann.created_by.as_str()), ("ann", SETUP));
        assert_eq!(state(), SetupState::Done);
        let again = done(&ledger, |tx| set_up(tx, Some(&hash(CODE)), &wish("ben"))).await;
        assert_eq!(again, Err(Refusal::SetupDone));
        assert_eq!(
            done(&ledger, |tx| bootstrap_setup(tx, &hash(CODE))).await,
            Ok(false),
            "nor after a restart"
        );
        assert_eq!(state(), SetupState::Done);
        let other = hash("ZZZZZ-11111-22222-ABCDE");
        done(&ledger, |tx| renew_setup(tx, &other)).await.expect("is renewed");
        assert!(done(&ledger, |tx| set_up(tx, Some(&hash(CODE)), &wish("ben"))).await.is_err());
        assert!(done(&ledger, |tx| set_up(tx, Some(&other), &wish("ben"))).await.is_ok());
    }

    /// A manager tries to record the founders' token whenever it starts. Once it was revoked it stays so, also when nobody has
    /// any token just then.
    #[tokio::test]
    async fn a_revoked_token_of_the_founders_does_not_come_back() {
        let ledger = MemoryLedger::new();
        assert_eq!(done(&ledger, |tx| bootstrap(tx, "one", b"hash")).await, Ok(true));
        let by = Caller::administrator("admin");
        done(&ledger, |tx| create_user(tx, &by, &UserWish { admin: true, ..wish("ops") }))
            .await
            .expect("is made");
        done(&ledger, |tx| revoke_token(tx, "one", |_| true)).await.expect("ops is left");
        assert_eq!(done(&ledger, |tx| bootstrap(tx, "one", b"hash")).await, Ok(false));
        assert_eq!(done(&ledger, |tx| bootstrap_setup(tx, &hash(CODE))).await, Ok(false));
        assert_eq!(setup_state(&ledger.view()), Ok(SetupState::Done));
        let session = TokenWish {
            id: "two".into(),
            hash: vec![1],
            acts_as: ActsAs::User(crate::name::Name::parse("a user", "ops").expect("is one")),
            kind: TokenKind::Session,
            name: String::new(),
            life: None,
        };
        assert!(done(&ledger, |tx| create_token(tx, &by, &session)).await.is_ok());
    }
}
