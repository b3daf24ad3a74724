//! How RocksDB is opened: its tables, its memory and its care for the write-ahead log.
//!
//! The sizes are for a manager that shares its machine: the data is small and the disk is not the limit, so memory is spent
//! where merging would otherwise take the processors.

use std::path::Path;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, LogLevel, LruCacheOptions, Options,
};

use crate::error::{Result, StorageError};
use crate::files;

/// Small records: identity, vote, positions, which state table is active.
pub(crate) const META: &str = "meta";
/// The log: index to bytes.
pub(crate) const LOG: &str = "log";
/// One of the two state tables.
pub(crate) const STATE_A: &str = "state_a";
/// The other one.
pub(crate) const STATE_B: &str = "state_b";

/// Every table of the database. RocksDB insists on `default`; nothing is kept in it.
const TABLES: &[&str] = &["default", META, LOG, STATE_A, STATE_B];

/// Shared by all tables and open checkpoints: the working set of a cluster is a few MiB.
const BLOCK_CACHE_BYTES: usize = 16 << 20;
/// Two to the power of this are the parts of the cache, each with a lock of its own. By default there are 32 of them, and
/// what is larger than one is read from its file every time.
const BLOCK_CACHE_SHARD_BITS: i32 = 1;
/// Indexes and filters are cached in pieces of about this size: one of a large file, cached as a whole, would drive out
/// everything else.
const INDEX_BLOCK_BYTES: usize = 4 << 10;
/// All buffers are written to files together, when the write-ahead log is full; none of them is before.
const WRITE_BUFFER_BYTES: usize = 8 << 20;
/// Fresh files are merged when there are so many. Each reaches over nearly all keys, so that merging rewrites most of the table
/// for every few of them; and each is looked into by whoever looks for a row that is not there, but only its filter.
const FRESH_FILES_MAX: i32 = 12;
/// Buffers grow in steps of this size; the default of an eighth of a buffer is a waste on idle tables.
const ARENA_BLOCK_BYTES: usize = 64 << 10;
/// Bounds the replay at start, and with it the time and memory that a start takes. Small also because a log is used again only
/// when it is not needed any more.
const WRITE_AHEAD_LOG_BYTES_MAX: u64 = 4 << 20;
/// A sync of a file that grows waits for its blocks, then for the file system's journal, which has its new length. In a log
/// that is overwritten nothing changes but the blocks. One is enough if its tables are in files before the next is full.
const WRITE_AHEAD_LOGS_KEPT: usize = 2;
/// Each open table file keeps its index in the block cache; a cluster has a few dozen files.
const OPEN_FILES_MAX: i32 = 256;
/// One flush and one compaction at a time are enough for the write rate of one consensus group.
const BACKGROUND_JOBS_MAX: i32 = 2;
/// The list of files is rewritten when it has grown to this size.
const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// RocksDB's own diary.
const DIARY_BYTES_MAX: usize = 1 << 20;
/// The diary of this run and of the last.
const DIARIES_KEPT: usize = 2;
/// Purged entries give their space back file by file, so files are about as large as a write buffer.
const TABLE_FILE_BYTES: u64 = 8 << 20;
/// What is older than this much lies in a level of its own, which is merged file by file, only where something new has
/// come: requests are remembered in the order of time, so most of what is old is never touched again.
const YOUNG_LEVEL_BYTES: u64 = 32 << 20;
/// About one false positive in a hundred look-ups.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// The block cache of one store.
pub(crate) fn cache() -> Cache {
    let mut options = LruCacheOptions::default();
    options.set_capacity(BLOCK_CACHE_BYTES);
    options.set_num_shard_bits(BLOCK_CACHE_SHARD_BITS);
    Cache::new_lru_cache_opts(&options)
}

/// Opens or creates the database in `folder`.
pub(crate) fn open(folder: &Path, cache: &Cache) -> Result<DB> {
    refuse_amnesia(folder)?;
    let mut options = options();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    DB::open_cf_descriptors(&options, folder, descriptors(cache))
        .map_err(|error| missing_is_damage(error, folder))
}

/// Opens a checkpoint; nothing in it is changed.
pub(crate) fn open_read_only(folder: &Path, cache: &Cache) -> Result<DB> {
    let may_have_write_ahead_log = false;
    DB::open_cf_descriptors_read_only(&options(), folder, descriptors(cache), may_have_write_ahead_log)
        .map_err(StorageError::rocksdb("open a checkpoint"))
}

/// A file that the database's own list names and that is not there was lost, or the list names another one.
fn missing_is_damage(error: rocksdb::Error, folder: &Path) -> StorageError {
    let doing = "open the database";
    if error.kind() == rocksdb::ErrorKind::IOError && error.as_ref().contains("No such file or directory") {
        let detail = format!("a file of {} is missing: {error}", folder.display());
        return StorageError::Corrupt { doing, detail };
    }
    StorageError::rocksdb(doing)(error)
}

/// RocksDB creates a database where it finds none. If there was one, that would be a replica that forgot
/// its votes and does not know it.
fn refuse_amnesia(folder: &Path) -> Result<()> {
    let names = files::names(folder)?;
    let has_data = names.iter().any(|name| name.ends_with(".sst") || name.ends_with(".log"));
    if has_data && !names.iter().any(|name| name == "CURRENT") {
        let detail = format!("{} has table files and no list of them", folder.display());
        return Err(StorageError::Corrupt { doing: "open the database", detail });
    }
    Ok(())
}

fn options() -> Options {
    let mut options = Options::default();
    // Stops at the first record that is not whole, across all log files, so that what remains is a prefix.
    // Whether the prefix is long enough is checked afterwards, see `durable.rs`.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    // The default, said because everything here relies on it.
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(WRITE_AHEAD_LOG_BYTES_MAX);
    options.set_recycle_log_file_num(WRITE_AHEAD_LOGS_KEPT);
    // All tables at once: otherwise each log is needed until the last of them has been.
    options.set_atomic_flush(true);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_file_opening_threads(1);
    options.set_max_background_jobs(BACKGROUND_JOBS_MAX);
    options.set_max_manifest_file_size(MANIFEST_BYTES_MAX);
    options.set_keep_log_file_num(DIARIES_KEPT);
    options.set_max_log_file_size(DIARY_BYTES_MAX);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options
}

fn descriptors(cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
    TABLES.iter().map(|name| ColumnFamilyDescriptor::new(*name, table_options(name, cache))).collect()
}

fn table_options(name: &str, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(INDEX_BLOCK_BYTES);
    blocks.set_pin_top_level_index_and_filter(true);
    if name == STATE_A || name == STATE_B {
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_arena_block_size(ARENA_BLOCK_BYTES);
    options.set_target_file_size_base(TABLE_FILE_BYTES);
    options.set_level_zero_file_num_compaction_trigger(FRESH_FILES_MAX);
    options.set_max_bytes_for_level_base(YOUNG_LEVEL_BYTES);
    options
}
