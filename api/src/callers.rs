//! Callers whose tokens have been looked up, remembered until anything changes that they depend on.
//!
//! Whoever asks often is asked for a token with every request, and each look-up reads up to a dozen records. What those
//! records are is followed as everybody can follow it: a change is told before whoever made it is answered, so a token
//! that was revoked here opens nothing here from then on, as without this memory; other managers follow as soon as they
//! have applied it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use jiff::Timestamp;
use skep_ledger::{Feed, Filter, View, Watch};
use skep_model::Ruling;
use skep_model::access::{self, Caller, caller_depends_on};

/// Whoever comes when there are so many is looked up each time, until the next change empties the memory.
const CALLERS_MAX: usize = 10_000;

/// The memory.
pub(crate) struct Callers(Mutex<Known>);

struct Known {
    changes: Watch,
    /// By the id of the token.
    callers: HashMap<String, Remembered>,
    /// How often everything was forgotten.
    times_forgotten: u64,
}

struct Remembered {
    /// Of the whole token.
    hash: Vec<u8>,
    caller: Arc<Caller>,
}

impl Callers {
    pub(crate) fn following(feed: &Feed) -> Callers {
        let changes = feed.watch_matching(*feed.latest().borrow(), Filter::of(caller_depends_on()));
        Callers(Mutex::new(Known { changes, callers: HashMap::new(), times_forgotten: 0 }))
    }

    /// Whose token this is, as [`access::caller`] says; only for that a view is needed.
    pub(crate) fn find(
        &self,
        token: &str,
        now: Timestamp,
        view: impl FnOnce() -> View,
    ) -> Ruling<Option<Arc<Caller>>> {
        let Some((id, hash)) = access::parse(token) else {
            return Ok(None);
        };
        let times_forgotten = {
            let known = self.up_to_date();
            if let Some(caller) = known.caller(&id, &hash).filter(|caller| !caller.has_ended(now)) {
                return Ok(Some(caller.clone()));
            }
            known.times_forgotten
        };
        let found = access::caller(&view(), token, now)?.map(Arc::new);
        if let Some(caller) = &found {
            let mut known = self.up_to_date();
            // What has changed since may be missing in the view.
            if known.times_forgotten == times_forgotten && known.callers.len() < CALLERS_MAX {
                known.callers.insert(id, Remembered { hash, caller: caller.clone() });
            }
        }
        Ok(found)
    }

    fn up_to_date(&self) -> MutexGuard<'_, Known> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.changes.try_next().is_some() {
            known.callers.clear();
            known.times_forgotten += 1;
        }
        known
    }
}

impl Known {
    /// Takes as long for a wrong secret as for a right one.
    fn caller(&self, id: &str, hash: &[u8]) -> Option<&Arc<Caller>> {
        let remembered = self.callers.get(id)?;
        verify_slices_are_equal(&remembered.hash, hash).is_ok().then_some(&remembered.caller)
    }
}

#[cfg(test)]
mod tests {
    use skep_ledger::{Ledger as _, MemoryLedger, Request, Tx, transact};
    use skep_model::access::{
        ActsAs, RoleWish, Scope, Subject, TokenKind, TokenWish, UserWish, add_member, bind, bootstrap,
        create_group, create_token, create_user, disable_user, enable_user, remove_member, revoke_token,
        set_role, unbind,
    };
    use skep_model::ids::UserId;
    use skep_model::name::Name;

    use super::*;

    const TOKEN: &str = "skp_ben_secret";

    struct Door {
        ledger: Arc<MemoryLedger>,
        callers: Callers,
    }

    impl Door {
        async fn new() -> Door {
            let ledger = MemoryLedger::new();
            let door = Door { callers: Callers::following(ledger.feed()), ledger };
            door.does(|tx| bootstrap(tx, "admin", b"h")).await;
            door.does(|tx| create_user(tx, &admin(), &user())).await;
            door.does(|tx| create_token(tx, &admin(), &token())).await;
            door
        }

        async fn does<T>(&self, rule: impl Fn(&mut Tx<'_>) -> Ruling<T> + Send + Sync) {
            let rule = |tx: &mut Tx<'_>| rule(tx).map(drop);
            if transact(&*self.ledger, Request::new(), rule).await.is_err() {
                panic!("a change was refused");
            }
        }

        /// With whatever is remembered; checked against what is stored.
        #[track_caller]
        fn find(&self) -> Option<Arc<Caller>> {
            let now = self.ledger.now();
            let found = self.callers.find(TOKEN, now, || self.ledger.view()).expect("is read");
            assert_eq!(
                found.as_deref(),
                access::caller(&self.ledger.view(), TOKEN, now).expect("is read").as_ref()
            );
            found
        }
    }

    fn admin() -> Caller {
        Caller::administrator("admin")
    }

    fn ben() -> Name {
        Name::parse("a user", "ben").expect("is a name")
    }

    fn user() -> UserWish {
        let id = UserId::new(uuid::Uuid::from_u128(1));
        UserWish { id, name: "ben".into(), password: String::new(), admin: false }
    }

    fn token() -> TokenWish {
        let (id, hash) = access::parse(TOKEN).expect("is one");
        let (acts_as, kind) = (ActsAs::User(ben()), TokenKind::Key);
        TokenWish { id, hash, acts_as, kind, name: String::new(), life: None }
    }

    #[tokio::test]
    async fn whatever_changes_a_caller_is_noticed_at_once() {
        let door = Door::new().await;
        let first = door.find();
        assert!(first.is_some());
        let role = |permission: &str| RoleWish {
            name: "looks".into(),
            description: String::new(),
            permissions: vec![permission.into()],
        };
        let (look, change) = (role("view:host"), role("manage:host"));
        let group = Subject::Group(Name::parse("a group", "ops").expect("is a name"));
        door.does(|tx| set_role(tx, &admin(), &look)).await;
        door.does(|tx| create_group(tx, &admin(), "ops", "")).await;
        door.does(|tx| bind(tx, &admin(), &Scope::Cluster, &group, "looks")).await;
        assert_eq!(door.find(), first);
        let mut seen = first;
        let mut differs = |now: Option<Arc<Caller>>| {
            assert_ne!(now, seen);
            seen = now;
        };
        door.does(|tx| add_member(tx, &admin(), "ops", "ben")).await;
        differs(door.find());
        door.does(|tx| set_role(tx, &admin(), &change)).await;
        differs(door.find());
        door.does(|tx| unbind(tx, &admin(), &Scope::Cluster, &group)).await;
        differs(door.find());
        door.does(|tx| remove_member(tx, &admin(), "ops", "ben")).await;
        differs(door.find());
        door.does(|tx| disable_user(tx, &admin(), "ben")).await;
        differs(door.find());
        door.does(|tx| enable_user(tx, &admin(), "ben")).await;
        differs(door.find());
        door.does(|tx| revoke_token(tx, "ben", |_| true)).await;
        assert_eq!(door.find(), None);
    }

    #[tokio::test]
    async fn whoever_is_remembered_is_not_looked_up_and_a_wrong_secret_opens_nothing() {
        let door = Door::new().await;
        let known = door.find();
        let now = door.ledger.now();
        let nowhere = || panic!("looked up although it is remembered");
        assert_eq!(door.callers.find(TOKEN, now, nowhere).expect("is read"), known);
        let wrong = door.callers.find("skp_ben_other", now, || door.ledger.view()).expect("is read");
        assert_eq!(wrong, None);
        assert_eq!(door.callers.find(TOKEN, now, nowhere).expect("is read"), known);
    }

    #[tokio::test]
    async fn a_token_ends_although_it_is_remembered() {
        let door = Door::new().await;
        let life = Some(jiff::SignedDuration::from_hours(1));
        let (id, hash) = access::parse("skp_short_secret").expect("is one");
        door.does(|tx| {
            let wish = TokenWish { id: id.clone(), hash: hash.clone(), life, ..token() };
            create_token(tx, &admin(), &wish)
        })
        .await;
        let find = |now| door.callers.find("skp_short_secret", now, || door.ledger.view()).expect("is read");
        let now = door.ledger.now();
        assert!(find(now).is_some());
        assert_eq!(find(now + jiff::SignedDuration::from_hours(2)), None);
    }
}
