//! The one way to make a DataFusion session: our functions, our stores, a memory limit with spilling, and tables named
//! by URL.

mod catalog;
mod options;

use std::sync::Arc;

use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
};
use datafusion::config::SqlParserOptions;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::context::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

pub(crate) use catalog::TableSource;
use catalog::{CATALOG, Catalogs, HostTables, LazySchema, SCHEMA, Stores, with_urls};
pub use options::{Bytes, SessionOptions};

use crate::error::{Result, invalid};
use crate::storage::Storage;

/// Makes a session over `storage` with every function of [`counterweight_udfs`] registered.
///
/// A table may be named by URL or path: `SELECT … FROM 's3://bucket/path/*.parquet'`.
pub fn session(options: &SessionOptions, storage: Arc<Storage>) -> Result<SessionContext> {
    session_with(options, storage, Vec::new())
}

/// The same, with the tables of `sources` beside those that a query registers.
pub(crate) fn session_with(
    options: &SessionOptions,
    storage: Arc<Storage>,
    sources: Vec<Arc<dyn TableSource>>,
) -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_information_schema(true);
    if let Some(threads) = options.threads {
        if threads == 0 {
            invalid!("threads = 0: give at least 1");
        }
        config = config.with_target_partitions(threads);
    }
    if let Some(batch_size) = options.batch_size {
        if batch_size == 0 {
            invalid!("batch_size = 0: give at least 1");
        }
        config = config.with_batch_size(batch_size);
    }

    // DataFusion takes times to be UTC where no zone is set.
    if let Some(zone) = options.time_zone.as_ref().filter(|zone| *zone != "UTC") {
        if zone.parse::<Tz>().is_err() {
            invalid!("time_zone = {zone:?} is no zone; give UTC, Europe/Berlin or +01:00");
        }
        config.options_mut().execution.time_zone = Some(zone.clone());
    }

    // A job reads back what it has just written: a listing must not be remembered.
    let mut runtime = RuntimeEnvBuilder::new().with_object_store_registry(storage).with_object_list_cache_limit(0);
    if let Some(Bytes(limit)) = options.memory_limit {
        let pool = FairSpillPool::new(usize::try_from(limit).unwrap_or(usize::MAX));
        let top = std::num::NonZeroUsize::MIN.saturating_add(4);
        runtime = runtime.with_memory_pool(Arc::new(TrackConsumersPool::new(pool, top)));
    }
    if let Some(directory) = &options.spill_directory {
        let mode = DiskManagerMode::Directories(vec![directory.clone()]);
        runtime = runtime.with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode));
    }

    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(Arc::new(runtime.build()?))
        .with_default_features()
        .build();
    let context = SessionContext::new_with_state(state);
    let names = context.state().config_options().catalog.clone();
    let catalog = context.catalog(&names.default_catalog).expect("a session has a default catalog");
    let registered = catalog.schema(&names.default_schema).expect("a catalog has a default schema");
    let schema = LazySchema { registered, sources: with_urls(sources), session: context.state_weak_ref() };
    catalog.register_schema(&names.default_schema, Arc::new(schema))?;
    counterweight_udfs::register_all(&mut *context.state_ref().write())?;
    Ok(context)
}

/// A session that has the tables of `sources` beside all that `host` has, and our functions and stores: `host` stays as it
/// is.
///
/// A bare name means a table of `sources`, else one of the host's default schema, else a URL or a path. Tables that a query
/// registers go to a schema of the session's own, `counterweight.job`. A URL for which the host has registered no store
/// is opened by `storage`.
pub(crate) fn session_beside(
    host: &SessionContext,
    storage: Arc<Storage>,
    mut sources: Vec<Arc<dyn TableSource>>,
) -> Result<SessionContext> {
    let state = host.state();
    let names = &state.config_options().catalog;
    let schema = host.catalog(&names.default_catalog).and_then(|catalog| catalog.schema(&names.default_schema));
    sources.extend(schema.map(|schema| Arc::new(HostTables(schema)) as Arc<dyn TableSource>));

    let catalog = Arc::new(MemoryCatalogProvider::new());
    let catalogs = Catalogs { host: Arc::clone(state.catalog_list()), ours: MemoryCatalogProviderList::new() };
    catalogs.register_catalog(CATALOG.to_owned(), Arc::clone(&catalog) as _);
    let runtime = RuntimeEnvBuilder::from_runtime_env(state.runtime_env());
    let runtime = runtime.with_cache_manager(CacheManagerConfig::default()).with_object_list_cache_limit(0);
    let stores = Stores { host: Arc::clone(&state.runtime_env().object_store_registry), storage };
    let runtime = runtime.with_object_store_registry(Arc::new(stores)).build()?;
    let config = state.config().clone().with_create_default_catalog_and_schema(false);
    let config = config.with_default_catalog_and_schema(CATALOG, SCHEMA).with_information_schema(true);
    let state = SessionStateBuilder::new_from_existing(state)
        .with_catalog_list(Arc::new(catalogs))
        .with_runtime_env(Arc::new(runtime))
        .with_config(config)
        .build();
    let context = SessionContext::new_with_state(state);
    let registered = Arc::new(MemorySchemaProvider::new());
    let schema = LazySchema { registered, sources: with_urls(sources), session: context.state_weak_ref() };
    catalog.register_schema(SCHEMA, Arc::new(schema))?;
    counterweight_udfs::register_all(&mut *context.state_ref().write())?;
    Ok(context)
}

/// A session over the tables, functions and stores of `state` with another configuration.
///
/// As it is, a builder would put an empty default schema in the place of the one in the catalog that both share.
pub fn reconfigured(state: SessionState, config: impl FnOnce(SessionConfig) -> SessionConfig) -> SessionContext {
    let config = config(state.config().clone().with_create_default_catalog_and_schema(false));
    SessionContext::new_with_state(SessionStateBuilder::new_from_existing(state).with_config(config).build())
}

/// A session with the functions and stores of `state`, and no table. It reads SQL as we write it, whatever dialect a host
/// has chosen.
pub fn without_tables(state: SessionState) -> SessionContext {
    let mut config = state.config().clone().with_create_default_catalog_and_schema(true);
    config.options_mut().sql_parser = SqlParserOptions::default();
    let state = SessionStateBuilder::new_from_existing(state)
        .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
        .with_config(config)
        .build();
    SessionContext::new_with_state(state)
}

/// Whether a column holds a vector: a representation φ in one column.
pub fn is_vector(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            field.data_type().is_floating()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn options_reach_the_session() {
        let options = SessionOptions {
            memory_limit: Some(Bytes(1 << 20)),
            threads: Some(3),
            batch_size: Some(7),
            ..Default::default()
        };
        let context = session(&options, Arc::new(Storage::new([]))).unwrap();
        let state = context.state();
        assert_eq!((state.config().target_partitions(), state.config().batch_size()), (3, 7));
        let hungry = "SELECT array_agg(a.value) FROM range(1000000) a";
        let error = context.sql(hungry).await.unwrap().collect().await.unwrap_err().to_string();
        assert!(error.contains("Resources exhausted"), "{error}");

        for (options, key) in [
            (SessionOptions { threads: Some(0), ..Default::default() }, "threads"),
            (SessionOptions { batch_size: Some(0), ..Default::default() }, "batch_size"),
        ] {
            let error = session(&options, Arc::new(Storage::new([]))).err().unwrap().to_string();
            assert_eq!(error, format!("{key} = 0: give at least 1"));
        }
    }
}
