//! Every code with which Skep says no: its number, its reason, its status, and what it means.
//!
//! The one place where these stand. The reference page, `skep explain`, the answers of REST and gRPC and what a file is
//! found to be are made of it; `cargo xtask tidy` demands a test that is answered with each code.
//!
//! A code never changes its meaning, and its number is never used for anything else. A new one takes a number that is
//! free, in the order of the numbers:
//!
//! | numbers     | who says no                                                        |
//! |-------------|--------------------------------------------------------------------|
//! | 1000 – 1999 | the door and the rules: the request, who asks, names, states, limits |
//! | 2000 – 2999 | what hosts, engines, drivers, registries and recipes are found to be |
//! | 3000 – 3999 | the managers themselves, and backups                               |
//! | 9000 – 9999 | a manager that is broken                                           |

/// Makes [`Code`] of rows: the explanation as people read it, then the name, the number, the reason for programs, the
/// status of HTTP (`file` if it is no answer, but found in a file), and whether the same request may succeed later.
macro_rules! catalogue {
    ($(
        $(#[doc = $line:literal])+
        $name:ident = $number:literal, $reason:literal, $status:tt, retryable: $retryable:literal;
    )+) => {
        /// Why something was not done as wished.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(
                $(#[doc = $line])+
                $name,
            )+
        }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: &[Code] = &[$(Code::$name),+];

            /// The number, as it is shown everywhere: `SKP-1301`.
            pub const fn number(self) -> &'static str {
                match self {
                    $(Code::$name => $number,)+
                }
            }

            /// The same for programs: `NAME_TAKEN`.
            pub const fn reason(self) -> &'static str {
                match self {
                    $(Code::$name => $reason,)+
                }
            }

            /// The status with which the API answers it; none for what is found in a file, without the API.
            pub const fn status(self) -> Option<u16> {
                match self {
                    $(Code::$name => status!($status),)+
                }
            }

            /// Whether the same request may succeed later.
            pub const fn is_retryable(self) -> bool {
                match self {
                    $(Code::$name => $retryable,)+
                }
            }

            /// What it means and what helps: the lines above its row.
            pub(crate) const fn lines(self) -> &'static [&'static str] {
                match self {
                    $(Code::$name => &[$($line),+],)+
                }
            }
        }
    };
}

macro_rules! status {
    (file) => {
        None
    };
    ($status:literal) => {
        Some($status)
    };
}

catalogue! {
    /// The request could not be read: the body is missing or not JSON, the query has a parameter that is not known here
    /// or a value that is none, the path holds control characters, or an archive broke off on its way. For JSON,
    /// `errors[0].line` says where. Correct the request; repeating it does not help.
    MalformedRequest = "SKP-1001", "MALFORMED_REQUEST", 400, retryable: false;

    /// There is nothing at this path. `GET /v1/openapi.json` describes every path there is. If the thing itself is
    /// missing and not the path, the code is SKP-1203.
    UnknownRoute = "SKP-1002", "UNKNOWN_ROUTE", 404, retryable: false;

    /// The path exists, but does not take this method. The header `Allow` lists the methods that it takes.
    MethodNotAllowed = "SKP-1003", "METHOD_NOT_ALLOWED", 405, retryable: false;

    /// A JSON body may have 1 MiB. Only image archives may be larger; they are sent as they are, not within JSON.
    BodyTooLarge = "SKP-1004", "BODY_TOO_LARGE", 413, retryable: false;

    /// The body is not said to be JSON. Send the header `Content-Type: application/json`; with curl: `--json @file`.
    UnsupportedMediaType = "SKP-1005", "UNSUPPORTED_MEDIA_TYPE", 415, retryable: false;

    /// The body is JSON, but not of the form that is expected here: a field is missing, unknown, or of another type.
    /// The detail names the field and `errors[0].line` its line. Unknown fields are refused so that a misspelled one is
    /// not silently without effect.
    InvalidBody = "SKP-1006", "INVALID_BODY", 422, retryable: false;

    /// This `Idempotency-Key` was used within the last 24 hours for the same path and method, but with another body.
    /// The earlier request stands as it was; this one changed nothing. Use a new key for a new request.
    IdempotencyKeyReused = "SKP-1007", "IDEMPOTENCY_KEY_REUSED", 422, retryable: false;

    /// Commands and logs of hosts are streams of frames, and the request did not offer to speak them: HTTP/1.1 with
    /// `Connection: upgrade` and `Upgrade: skep-frames`. A proxy in between must pass these headers on.
    /// `docs/reference/terminal.md` describes the frames.
    UpgradeRequired = "SKP-1008", "UPGRADE_REQUIRED", 426, retryable: false;

    /// A JSON body must be here within 30 seconds, and of an archive something must come every 60 seconds. Nothing was
    /// changed. Repeat the request; if it happens often, look for a proxy that holds bodies back.
    BodyTooSlow = "SKP-1009", "BODY_TOO_SLOW", 408, retryable: true;

    /// The cursor of a list leads on for 15 minutes, and this one is older. Ask for the list again, without a cursor.
    CursorExpired = "SKP-1013", "CURSOR_EXPIRED", 410, retryable: false;

    /// The request has no API token, or one that is not valid. Which of the two is not told. Send the header
    /// `Authorization: Bearer skp_…`; with `skep`, give `--token-file` or set `SKEP_TOKEN_FILE`. Browsers may send the
    /// cookie of a session instead, if there is no such header.
    Unauthenticated = "SKP-1101", "UNAUTHENTICATED", 401, retryable: false;

    /// You are signed in, and may not do this. `skep whoami -o json` shows what you may; whoever owns the environment,
    /// or an administrator, can give you a role with more in it. [Who may do what](access.md) has every route.
    Forbidden = "SKP-1102", "FORBIDDEN", 403, retryable: false;

    /// The role allows something that you may not do yourself, so you can neither give it, nor take it, nor make a key
    /// with it, nor act as somebody who has it. Choose a role with less in it, or ask somebody who has more.
    BeyondOwnPermissions = "SKP-1103", "BEYOND_OWN_PERMISSIONS", 403, retryable: false;

    /// The name or the password is wrong, or the user is disabled; which of it is not told. An administrator can set
    /// another password: `skep user passwd NAME --password-file FILE`.
    LoginFailed = "SKP-1104", "LOGIN_FAILED", 401, retryable: false;

    /// Five have tried to sign in to this account from this address within a minute and failed, or fifty from anywhere.
    /// The same counts for setup codes, for devices that ask for codes, and for short codes of devices that nobody has.
    /// Wait a minute, as `Retry-After` says; each manager counts by itself.
    TooManyAttempts = "SKP-1105", "TOO_MANY_ATTEMPTS", 429, retryable: true;

    /// The first administrator is there already, or the cluster was founded with an administrator's token: its setup
    /// code is worth nothing any more. Sign in (`skep login URL --user NAME`). If it was not you, and nobody whom you
    /// know, somebody else has had the code: see `skep audit ls`, and read [Nobody can sign in as an
    /// administrator](../how-to/people.md#nobody-can-sign-in-as-an-administrator).
    SetupDone = "SKP-1106", "SETUP_DONE", 409, retryable: false;

    /// This is not the code with which the first administrator comes in. Each manager that has founded the cluster
    /// prints it when it starts (`journalctl -u skep-server`), until it is used, and has it in the file `setup-code` of
    /// its data folder. Case, dashes and spaces do not matter.
    SetupCodeWrong = "SKP-1107", "SETUP_CODE_WRONG", 401, retryable: false;

    /// Nobody has said yet whether the device may come in. Ask again after `interval` seconds; somebody who is signed
    /// in approves it with `skep login approve CODE`.
    AuthorizationPending = "SKP-1108", "AUTHORIZATION_PENDING", 400, retryable: true;

    /// The device has asked again too soon. From now on wait five seconds longer each time.
    SlowDown = "SKP-1109", "SLOW_DOWN", 400, retryable: true;

    /// The device code has ended, which it does after ten minutes, was exchanged already, or never was one; which of it
    /// is not told. Begin again: `skep login URL --device`.
    Expired = "SKP-1110", "EXPIRED", 400, retryable: false;

    /// Somebody has said that the device may not come in, or whoever has approved it was disabled, removed, or has
    /// another password since. Begin again: `skep login URL --device`.
    AccessDenied = "SKP-1111", "ACCESS_DENIED", 400, retryable: false;

    /// The request came with the cookie of a session and would change something, and nothing proves that our own page
    /// has sent it. Send the value that signing in has answered as `csrf`, and that `GET /v1/sessions/current` tells
    /// again, in the header `X-Skep-CSRF`. A request whose connection becomes something else needs that header, or an
    /// `Origin` that is where it is sent to. Programs send `Authorization` and no cookie.
    Csrf = "SKP-1112", "CSRF", 403, retryable: false;

    /// A name has 1 to 63 characters of `a-z`, `0-9` and `-`, and does not begin or end with `-`. Names become host
    /// names and parts of service names, which allow no more.
    InvalidName = "SKP-1201", "INVALID_NAME", 422, retryable: false;

    /// A value is outside of what makes sense. The detail and `params.allowed` say what would do.
    InvalidValue = "SKP-1202", "INVALID_VALUE", 422, retryable: false;

    /// There is no object of that name or id, or not in that environment. Names are exact; list what there is with the
    /// noun's `ls` command.
    NotFound = "SKP-1203", "NOT_FOUND", 404, retryable: false;

    /// An object of that name exists already, in the environment or in the cluster, whichever the name must be unique
    /// in. Choose another name, or remove the other object first and wait until it is gone.
    NameTaken = "SKP-1301", "NAME_TAKEN", 409, retryable: false;

    /// The object is being removed, which cannot be turned around. Wait for the operation to end; then the name is free
    /// again.
    BeingRemoved = "SKP-1302", "BEING_REMOVED", 409, retryable: true;

    /// The environment has no hosts, so services would have nowhere to run. Create a host first; it need not be active
    /// yet.
    NoHosts = "SKP-1303", "NO_HOSTS", 409, retryable: true;

    /// Others kept changing what this request depends on, and it was given up after 32 attempts. Nothing was changed.
    /// Repeat it; if it happens often, something writes to one object in a loop.
    Conflict = "SKP-1304", "CONFLICT", 409, retryable: true;

    /// Most managers of the environment's swarm can be reached, so they can agree, or will as soon as their engines
    /// have found each other. Beginning the swarm anew would only lose what they know. Nothing was changed. `skep host
    /// ls` says what each host lacks.
    SwarmHasQuorum = "SKP-1305", "SWARM_HAS_QUORUM", 409, retryable: false;

    /// A swarm can be begun anew only on a host that is one of its managers and whose engine answers. Nothing was
    /// changed. `params.candidates` names those that can; if there is none, start the machine of one of them first.
    CannotRescue = "SKP-1306", "CANNOT_RESCUE", 409, retryable: false;

    /// Another operation has the thing in its hands; `params.operation` names it. Wait for it (`skep op watch ID`) or
    /// give it up (`skep op cancel ID`), then ask again.
    OperationInProgress = "SKP-1307", "OPERATION_IN_PROGRESS", 409, retryable: false;

    /// It cannot be done to a thing as it is now: an operation that has ended cannot be cancelled, one that is not
    /// paused cannot be resumed, one whose thing is gone cannot be tried again. `params.state` says how it is,
    /// `params.why` why not and what can be done instead.
    WrongState = "SKP-1308", "WRONG_STATE", 409, retryable: false;

    /// Something else still needs it: a role is kept while somebody, or an API key, has it. The answer names one who
    /// has it.
    InUse = "SKP-1309", "IN_USE", 409, retryable: false;

    /// After this nobody who can come in could do everything, and nobody could ever change that. Make somebody else an
    /// administrator first: `skep user create NAME --password-file FILE --admin`.
    LastAdministrator = "SKP-1310", "LAST_ADMINISTRATOR", 409, retryable: false;

    /// The request was to be done only if the object was of a certain revision (`If-Match`), or only if it was not
    /// there yet (`If-None-Match: *`), and that is not so. The answer's `ETag` is the revision that it is of. Look at
    /// it again, then decide anew.
    PreconditionFailed = "SKP-1311", "PRECONDITION_FAILED", 412, retryable: false;

    /// The object is there already, and changing it without having seen it could undo what somebody else did: a role,
    /// for instance, would lose a permission. Look at it and send its `ETag` as `If-Match`.
    PreconditionRequired = "SKP-1312", "PRECONDITION_REQUIRED", 428, retryable: false;

    /// An orphan is a machine that carries this cluster's tag and that the cluster knows nothing of. This one is known:
    /// the detail says by whom. Remove its host (`skep host rm`), which gives the machine back.
    NotAnOrphan = "SKP-1321", "NOT_AN_ORPHAN", 409, retryable: false;

    /// The host registered itself, so there is no driver that could make a machine like its own. Set a machine up
    /// yourself, let it register (`skep host register`), and remove the old host afterwards. To set up the same machine
    /// anew, remove its host first: its name and address are free then.
    NoDriver = "SKP-1322", "NO_DRIVER", 409, retryable: false;

    /// The host's swarm would lose what it cannot do without: its only node with all services, the agreement of its
    /// managers, or one of the managers that the environment is to have. The detail says which. Add a host first, or
    /// bring those back that cannot be reached.
    CannotBeSpared = "SKP-1323", "CANNOT_BE_SPARED", 409, retryable: false;

    /// The environment has as many swarm managers as it keeps, and somebody wants each of them to be one. Let one go
    /// first (`skep host demote`).
    RoleWithoutEffect = "SKP-1324", "ROLE_WITHOUT_EFFECT", 409, retryable: false;

    /// The machine that wants to be a host is a node of a Docker Swarm already, and nothing was done to it. Either its
    /// swarm is taken over as it is (`skep host register --adopt`), or the machine leaves it first (`docker swarm
    /// leave`, on the machine).
    NodeOfASwarm = "SKP-1325", "NODE_OF_A_SWARM", 409, retryable: false;

    /// The machine was to bring its swarm along, but its engine is in none, or it is a worker, which cannot tell which
    /// swarm it is in. Begin with one of the swarm's managers. A machine without a swarm registers without `--adopt`.
    NothingToAdopt = "SKP-1326", "NOTHING_TO_ADOPT", 409, retryable: false;

    /// An environment has one swarm, and this one has or is about to get another than that of the machine. Nothing was
    /// done to either. Make an environment for the swarm, without hosts, and let its managers register there.
    AnotherSwarm = "SKP-1327", "ANOTHER_SWARM", 409, retryable: false;

    /// The environment has no swarm yet, so it has no join tokens, authority or unlock key that could be replaced. Wait
    /// until its first host is ready: `skep host ls`.
    NoSwarm = "SKP-1331", "NO_SWARM", 409, retryable: false;

    /// Skep knows no unlock key of the environment's swarm: its managers are not locked, or were locked by other means.
    /// Lock them with `skep env update NAME --autolock on`, or give the key that was set elsewhere: `skep env unlock
    /// NAME --key-file FILE`.
    NotAutolocked = "SKP-1332", "NOT_AUTOLOCKED", 409, retryable: false;

    /// No manager of the environment's swarm waits for the unlock key, as far as is known. Skep looks every few seconds
    /// while something is not as it should be; `skep host ls` shows what the hosts lack.
    NothingLocked = "SKP-1333", "NOTHING_LOCKED", 409, retryable: false;

    /// Managers of the swarm that is to be restored can be reached, and know more than the backup. If they have lost
    /// their quorum, `skep env rescue NAME --from HOST` keeps what they know. `--replace` goes back to the backup all
    /// the same: they leave their swarm. Nothing was changed.
    SwarmIsThere = "SKP-1334", "SWARM_IS_THERE", 409, retryable: false;

    /// The host on which the swarm is to be restored is not ready; the detail says why. Name another one, or create
    /// one: it need not be a node of any swarm.
    CannotRestore = "SKP-1335", "CANNOT_RESTORE", 409, retryable: false;

    /// The managers of the swarm are locked, and Docker begins no locked swarm anew: a backup of it could not be
    /// restored. Unlock it for the backup (`skep env update NAME --autolock off`) and lock it again afterwards; the
    /// backup itself is encrypted.
    SwarmIsLocked = "SKP-1336", "SWARM_IS_LOCKED", 409, retryable: false;

    /// Hosts of the environment do not go with what is wished for it; the detail names each with its reason: a kernel
    /// that cannot encrypt while networks should be encrypted, or an address pool that overlaps with networks that the
    /// host reaches. Mend what is named or wish something else. Nothing was changed.
    HostsUnfit = "SKP-1341", "HOSTS_UNFIT", 409, retryable: false;

    /// The template is one that every cluster has: it is neither replaced nor removed. Export it, give it another name
    /// and import that.
    BuiltIn = "SKP-1342", "BUILT_IN", 409, retryable: false;

    /// The change was to be made only if nothing had changed since a revision, and the environment or its template has.
    /// Look at the plan again (`skep env plan NAME`) and decide anew.
    Outdated = "SKP-1343", "OUTDATED", 409, retryable: false;

    /// The recipe has a volume of driver `nfs`, and the environment has no NFS server. Name one: `skep env update NAME
    /// --nfs server=HOST,path=/EXPORT`.
    NoNfs = "SKP-1344", "NO_NFS", 409, retryable: false;

    /// The environment rests: nothing is deployed, no host is created, labelled, cordoned or evacuated in it, and
    /// nothing is wished anew for it (`skep env update`, `skep env apply`). Nothing was changed. `skep env resume NAME`
    /// lets it be at work again, with everything as it was; removing hosts, stacks or the environment needs none of
    /// that.
    EnvironmentPaused = "SKP-1351", "ENVIRONMENT_PAUSED", 409, retryable: false;

    /// A host has a newer engine than the one that was asked for, and an engine does not read what a newer one has
    /// written. Nothing was changed. Name a version that is at least as new as `params.has`, or make a new host with
    /// the older engine and remove this one.
    EngineIsNewer = "SKP-1352", "ENGINE_IS_NEWER", 409, retryable: false;

    /// The cluster or the environment holds as many objects of this kind as it can. `params.limit` is the bound. Remove
    /// what is not needed any more, or use another environment.
    LimitReached = "SKP-1401", "LIMIT_REACHED", 409, retryable: false;

    /// The change would not fit into one entry of the replicated log. Nothing was changed. Ask for less at once, for
    /// example for fewer hosts, and repeat.
    ChangeTooLarge = "SKP-1402", "CHANGE_TOO_LARGE", 413, retryable: false;

    /// One object would take more than the 1 MiB that every manager keeps of an object. Nothing was changed.
    /// `params.object` names it. Divide it, or keep the large part elsewhere: image archives, for example, go to the
    /// hosts and not into the state.
    ObjectTooLarge = "SKP-1403", "OBJECT_TOO_LARGE", 413, retryable: false;

    /// This manager follows changes for as many clients as it can. Nothing is wrong with the request: another manager
    /// may have room, and `Retry-After` says when to ask here again. One watch may name several topics; a program needs
    /// one, not one per object.
    TooManyWatches = "SKP-1404", "TOO_MANY_WATCHES", 429, retryable: true;

    /// This manager has as many connections to its API port as it takes, and closes this one after its answer. Another
    /// manager may have room. If it happens often, look for a client that opens a connection for each request or never
    /// closes one.
    TooManyConnections = "SKP-1405", "TOO_MANY_CONNECTIONS", 503, retryable: true;

    /// As many operations as may wait already for the one that has the thing in its hands (`params.operation`). See
    /// what they are: `skep op ls --state queued`. Those that are not wanted any more can be cancelled; a removal is
    /// let in nevertheless.
    QueueFull = "SKP-1406", "QUEUE_FULL", 409, retryable: false;

    /// Whoever asks has asked too often: a principal too many reads (200 a second) or writes (20 a second), or an
    /// address for too many scripts for new hosts (30 a minute). Nothing was changed. `Retry-After`, and
    /// `params.retry_after_seconds`, say when to ask again. The headers `RateLimit-Policy` and `RateLimit` of every
    /// answer say how much is left. Each manager counts by itself; the limits are in `[limits]` of its `server.toml`
    /// ([limits.md](limits.md)).
    RateLimited = "SKP-1407", "RATE_LIMITED", 429, retryable: true;

    /// A principal has as many watches (50) or commands and logs of hosts (20) open at this manager as one may have.
    /// Close one, or follow several topics in one watch: a program needs one, not one per object.
    TooManyAtOnce = "SKP-1408", "TOO_MANY_AT_ONCE", 429, retryable: true;

    /// As many connections to this manager's API port come from this address as may (2 048), and this one is closed
    /// after its answer. If the address is a load balancer's, name it in `trusted_proxies`
    /// ([load-balancer.md](../how-to/load-balancer.md)); otherwise look for a client that opens a connection for each
    /// request or never closes one.
    TooManyFromAddress = "SKP-1409", "TOO_MANY_FROM_ADDRESS", 429, retryable: true;

    /// The path with its query may have 8 000 bytes. Names have at most 63 characters, so nothing that makes sense is
    /// longer; of topics, follow whole kinds (`host:prod/*`) rather than many objects.
    UriTooLong = "SKP-1410", "URI_TOO_LONG", 414, retryable: false;

    /// A manager wanted to join with a token that has ended, was used up or revoked, or never was one. Which of these
    /// is not told. `skep cluster join-command` makes a new one.
    JoinTokenUseless = "SKP-1501", "JOIN_TOKEN_USELESS", 403, retryable: false;

    /// A manager that was removed from the cluster wanted to come back under its number, which is never used again. It
    /// can join again with an empty data folder.
    ManagerRemoved = "SKP-1502", "MANAGER_REMOVED", 403, retryable: false;

    /// A machine wanted to register as a host, or fetched the script that does it, with a token that has ended, was
    /// used up or revoked, or never was one. Which of these is not told. `skep host register` makes a new one.
    RegistrationTokenUseless = "SKP-1503", "REGISTRATION_TOKEN_USELESS", 403, retryable: false;

    /// A machine wanted to register under an address that another host of the environment has: a clone with the address
    /// of its original, a machine that was set up anew while its old host is still known, or two private networks that
    /// look alike. Choose another of its addresses (`skep host register --address IP|INTERFACE`), or remove the old
    /// host first.
    AddressTaken = "SKP-1504", "ADDRESS_TAKEN", 409, retryable: false;

    /// The driver is not known, does not know an option or its value, or cannot work on the manager that was asked. The
    /// detail says which and what would do; `skep driver ls` lists the drivers with what they lack.
    DriverRefused = "SKP-2001", "DRIVER_REFUSED", 422, retryable: false;

    /// The environment has swarm managers, but none of them has answered: their agents are connected to no manager,
    /// their engines do not run, or the swarm has lost its quorum. The same is said of a host that was to tell its
    /// statistics and whose agent has not answered, or is of an earlier version. The detail names each host that was
    /// asked. Look at them with `skep host ls`; the request may be repeated.
    EngineUnreachable = "SKP-2401", "ENGINE_UNREACHABLE", 502, retryable: true;

    /// Stands in the `error` of an operation that has failed; the detail is the reason. What had been made was given
    /// back as far as its steps say. Put the cause right and ask for the same again.
    OperationFailed = "SKP-2402", "OPERATION_FAILED", 500, retryable: false;

    /// The environment has no host that could do this: no swarm manager to ask for tasks, or no active host to bring an
    /// image to. Wait until a host is active, or look at `skep host ls` for what keeps it.
    NoActiveHost = "SKP-2403", "NO_ACTIVE_HOST", 409, retryable: true;

    /// The environment is being checked already, by somebody else through the same manager. Two checks would only make
    /// each other's packets late. Nothing is wrong with the request: repeat it in a few seconds.
    DiagnosisRunning = "SKP-2404", "DIAGNOSIS_RUNNING", 409, retryable: true;

    /// The host's agent was asked to run a command or to show a log, and does not: there is no such program on the
    /// host, no such log, or the agent is of an earlier version. The detail says which. Nothing was run.
    NotStartedOnHost = "SKP-2405", "NOT_STARTED_ON_HOST", 409, retryable: false;

    /// A driver could not do what the request needs; the detail has its words. If it did not answer in time, it may
    /// still be done: look again.
    DriverFailed = "SKP-2421", "DRIVER_FAILED", 502, retryable: true;

    /// What is kept sealed cannot be opened, or a secret could not be sealed: it was sealed with another key than the
    /// managers of this cluster have, or was changed since. Give the secret again (`skep registry login`, `skep env
    /// update --autolock on`).
    SecretUnreadable = "SKP-2431", "SECRET_UNREADABLE", 500, retryable: false;

    /// The registry was asked, through a host of the environment, and does not let the user in with this password.
    /// Nothing was kept.
    LoginRefused = "SKP-2432", "LOGIN_REFUSED", 422, retryable: false;

    /// No host of the environment could ask the registry whether the login is right: it does not run, its name is not
    /// known, its certificate is not trusted by the hosts' engines, or it speaks plain HTTP and they were not told. The
    /// detail has each host's answer. Nothing was kept; `skep registry login --no-check` keeps it without asking.
    RegistryUnreachable = "SKP-2433", "REGISTRY_UNREACHABLE", 502, retryable: true;

    /// Hosts of the environment cannot use the NFS server that is wished for it: they do not reach it at 2049/tcp,
    /// their kernel has no NFS client, it does not let itself be mounted, or cannot be written. The detail names each
    /// host with its reason. Nothing was changed; mend it and ask again.
    NfsUnusable = "SKP-2441", "NFS_UNUSABLE", 409, retryable: true;

    /// The compose file is not a recipe that Skep understands completely. `errors` has every mistake with its place,
    /// its line and what to write instead. [recipe.md](recipe.md) lists what is understood. Nothing was deployed.
    InvalidRecipe = "SKP-2601", "INVALID_RECIPE", 422, retryable: false;

    /// A port that the recipe publishes on the hosts themselves (`mode: host`) is published by a service of another
    /// stack in the same environment; its tasks would wait for a free host for ever. Publish another port, or remove
    /// the other stack.
    HostPortTaken = "SKP-2602", "HOST_PORT_TAKEN", 409, retryable: false;

    /// The template document is not valid YAML, or has a key or value that is not understood. The detail names it with
    /// its line. `examples/template-three-managers.yml` shows the format.
    InvalidTemplate = "SKP-2603", "INVALID_TEMPLATE", 422, retryable: false;

    /// The managers have no leader, or this manager cannot reach it: an election is under way, or more than half of the
    /// managers are gone. Nothing was changed. Repeat the request after a second; reads with `?consistency=stale` are
    /// answered meanwhile, and `skep cluster status` shows who is missing.
    NoLeader = "SKP-3001", "NO_LEADER", 503, retryable: true;

    /// The change was handed to the leader and its answer was lost, so it may take effect or not. Repeat the request
    /// with the same `Idempotency-Key`: it is done at most once, and its answer is the first one's if it was done.
    OutcomeUnknown = "SKP-3002", "OUTCOME_UNKNOWN", 503, retryable: true;

    /// The request says that its client has seen a revision (`Skep-Min-Revision`, `since`, `index` or `Last-Event-ID`)
    /// which this manager has not applied within 5 seconds. It is behind: another manager may answer. If all of them
    /// say so, the revision is from before a restoration: compare `epoch` in `GET /v1/meta` with the one that came with
    /// the revision, and start over.
    RevisionNotReached = "SKP-3010", "REVISION_NOT_REACHED", 503, retryable: true;

    /// The change would leave a cluster whose managers cannot agree on anything: too few of the voters that would be
    /// left can be reached, or nobody would be left. The detail has the numbers. Nothing was changed. Bring the other
    /// managers back, or add one first.
    QuorumAtRisk = "SKP-3101", "QUORUM_AT_RISK", 409, retryable: true;

    /// The manager cannot do this at present: it has not caught up with the leader yet, does not vote, or cannot be
    /// reached. The detail says which. Nothing was changed; `skep cluster status` shows how it is.
    ManagerNotReady = "SKP-3102", "MANAGER_NOT_READY", 409, retryable: true;

    /// Another change of the managers is under way. Nothing was changed; try again in a moment.
    MembershipChanging = "SKP-3103", "MEMBERSHIP_CHANGING", 409, retryable: true;

    /// The manager that would have to do this itself (drain, or renew its certificate) did not answer. The detail names
    /// it. If all managers were meant, the others have done it.
    ManagerUnreachable = "SKP-3104", "MANAGER_UNREACHABLE", 502, retryable: true;

    /// The manager could not keep an image archive in its spool folder on the way to the hosts; mostly its disk is
    /// full. The detail names the folder. Make room, or repeat the request at another manager.
    SpoolFailed = "SKP-3201", "SPOOL_FAILED", 500, retryable: true;

    /// A machine that becomes a host fetches the program from a manager, and this manager cannot read it. The detail
    /// says why. Repeat the request at another manager.
    ProgramUnreadable = "SKP-3202", "PROGRAM_UNREADABLE", 500, retryable: true;

    /// Found by `skep snapshot inspect`, `verify` and `restore` on this computer: the file is no backup of Skep, or the
    /// key opens it and something else is in it. Give a file that `skep snapshot save` or the schedule has written.
    NotABackup = "SKP-3401", "NOT_A_BACKUP", file, retryable: false;

    /// The backup was encrypted to another recovery key. Find the one that was in use when it was taken; managers
    /// cannot help, because they have only the public half.
    WrongRecoveryKey = "SKP-3402", "WRONG_RECOVERY_KEY", file, retryable: false;

    /// A newer version of Skep has written the backup, in a form that this one does not read. Use that version, or a
    /// newer one.
    NewerBackupFormat = "SKP-3403", "NEWER_BACKUP_FORMAT", file, retryable: false;

    /// The backup is not what was written, or not all of it: a bit has flipped, its end is missing, or something was
    /// added. Nothing of it is used. Take another backup, or fetch this one again.
    DamagedBackup = "SKP-3404", "DAMAGED_BACKUP", file, retryable: false;

    /// What was given as a recovery key is none, or has a typing error. A recovery key is a line that begins with
    /// `AGE-SECRET-KEY-1`, in the file that `skep init` or `skep snapshot new-key` has written.
    InvalidRecoveryKey = "SKP-3405", "INVALID_RECOVERY_KEY", file, retryable: false;

    /// The manager could not write or read a backup; mostly its disk is full, or the schedule's folder is not there.
    /// The detail says which. Nothing else was changed. Make room, or ask another manager.
    SnapshotFailed = "SKP-3411", "SNAPSHOT_FAILED", 500, retryable: true;

    /// The cluster has no recovery key, so nobody could read a backup, and none is made. Make a key with `skep snapshot
    /// new-key FILE` and keep it safe.
    NoRecoveryKey = "SKP-3412", "NO_RECOVERY_KEY", 409, retryable: false;

    /// The backup is on another manager's disk. The detail names the manager: send the request to its address, or copy
    /// the file from its machine.
    SnapshotElsewhere = "SKP-3413", "SNAPSHOT_ELSEWHERE", 409, retryable: false;

    /// This manager cannot read its own copy of the state: its disk is damaged, or it was written by a newer version.
    /// Other managers may be well; ask one of them. An operator has to look at this one.
    StateUnreadable = "SKP-9001", "STATE_UNREADABLE", 500, retryable: false;

    /// This manager made a mistake of its own while it answered, and gave up this request only. Its log says where, and
    /// names the request's id. A change may have taken effect: look, or repeat it with the same `Idempotency-Key`. Please
    /// report it, with those lines of the log.
    InternalError = "SKP-9002", "INTERNAL_ERROR", 500, retryable: false;
}
