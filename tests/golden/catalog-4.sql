CREATE TABLE aliases (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	collection_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	UNIQUE (collection_id, name), 
	FOREIGN KEY(collection_id) REFERENCES collections (id)
);

CREATE TABLE blobs (
	digest BLOB NOT NULL, 
	size INTEGER NOT NULL, 
	state SMALLINT NOT NULL, 
	generation INTEGER NOT NULL, 
	object TEXT, 
	pack_id INTEGER, 
	position INTEGER NOT NULL, 
	condemned_at INTEGER, 
	PRIMARY KEY (digest)
)
 WITHOUT ROWID;

CREATE INDEX blobs_not_live ON blobs (state) WHERE state != 0;

CREATE TABLE changes (
	id INTEGER NOT NULL, 
	at INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	body JSON NOT NULL, 
	PRIMARY KEY (id)
);

CREATE TABLE collection_tags (
	collection_id INTEGER NOT NULL, 
	tag TEXT NOT NULL, 
	PRIMARY KEY (collection_id, tag), 
	FOREIGN KEY(collection_id) REFERENCES collections (id)
);

CREATE INDEX collection_tags_by_tag ON collection_tags (tag);

CREATE TABLE collections (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	project_id INTEGER NOT NULL, 
	type_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	kind TEXT NOT NULL CHECK (kind IN ('sequence', 'portfolio')), 
	state TEXT NOT NULL CHECK (state IN ('live', 'deleted')), 
	description TEXT, 
	created_at INTEGER NOT NULL, 
	deleted_at INTEGER, 
	ttl INTEGER, 
	next_number INTEGER NOT NULL, 
	UNIQUE (project_id, name), 
	FOREIGN KEY(project_id) REFERENCES projects (id), 
	FOREIGN KEY(type_id) REFERENCES types (id)
);

CREATE INDEX ix_collections_type_id ON collections (type_id);

CREATE TABLE entities (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name TEXT NOT NULL, 
	UNIQUE (name)
);

CREATE TABLE links (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	collection_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	created_at INTEGER NOT NULL, 
	deleted_at INTEGER, 
	UNIQUE (collection_id, number), 
	UNIQUE (collection_id, version_id), 
	FOREIGN KEY(collection_id) REFERENCES collections (id), 
	FOREIGN KEY(version_id) REFERENCES versions (id)
);

CREATE INDEX ix_links_version_id ON links (version_id);

CREATE TABLE packs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name TEXT NOT NULL, 
	size INTEGER NOT NULL, 
	count INTEGER NOT NULL, 
	state SMALLINT NOT NULL, 
	condemned_at INTEGER, 
	UNIQUE (name)
);

CREATE TABLE parts (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	session_id INTEGER NOT NULL, 
	distributed_id TEXT NOT NULL, 
	entity TEXT NOT NULL, 
	project TEXT NOT NULL, 
	type TEXT NOT NULL, 
	collection TEXT NOT NULL, 
	digest_algorithm TEXT NOT NULL, 
	manifest BLOB NOT NULL, 
	description TEXT, 
	metadata JSON NOT NULL, 
	aliases JSON NOT NULL, 
	tags JSON NOT NULL, 
	ttl INTEGER, 
	run_id TEXT, 
	expires_at INTEGER NOT NULL, 
	UNIQUE (session_id)
);

CREATE INDEX parts_by_version ON parts (distributed_id, entity, project, collection);

CREATE TABLE pins (
	session_id INTEGER NOT NULL, 
	digest BLOB NOT NULL, 
	PRIMARY KEY (session_id, digest)
)
 WITHOUT ROWID;

CREATE TABLE projects (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	entity_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	ttl INTEGER, 
	UNIQUE (entity_id, name), 
	FOREIGN KEY(entity_id) REFERENCES entities (id)
);

CREATE TABLE run_inputs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	run_id TEXT NOT NULL, 
	version_id INTEGER NOT NULL, 
	use_as TEXT NOT NULL, 
	at INTEGER NOT NULL, 
	UNIQUE (run_id, version_id, use_as), 
	FOREIGN KEY(run_id) REFERENCES runs (id), 
	FOREIGN KEY(version_id) REFERENCES versions (id)
);

CREATE INDEX ix_run_inputs_version_id ON run_inputs (version_id);

CREATE TABLE run_outputs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	run_id TEXT NOT NULL, 
	version_id INTEGER NOT NULL, 
	at INTEGER NOT NULL, 
	UNIQUE (run_id, version_id), 
	FOREIGN KEY(run_id) REFERENCES runs (id), 
	FOREIGN KEY(version_id) REFERENCES versions (id)
);

CREATE INDEX ix_run_outputs_version_id ON run_outputs (version_id);

CREATE TABLE runs (
	id TEXT NOT NULL, 
	project_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	job_type TEXT, 
	state TEXT NOT NULL, 
	created_at INTEGER NOT NULL, 
	finished_at INTEGER, 
	config JSON NOT NULL, 
	summary JSON DEFAULT '{}' NOT NULL, 
	run_group TEXT, 
	notes TEXT, 
	tags JSON DEFAULT '[]' NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id)
);

CREATE INDEX ix_runs_project_id ON runs (project_id);

CREATE TABLE sessions (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name TEXT NOT NULL, 
	host TEXT NOT NULL, 
	boot_id TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	lease_until INTEGER NOT NULL, 
	UNIQUE (name)
);

CREATE TABLE store (
	id INTEGER NOT NULL CHECK (id = 1), 
	store_id TEXT NOT NULL, 
	schema_version INTEGER NOT NULL, 
	created_at INTEGER NOT NULL, 
	last_change INTEGER NOT NULL, 
	blobs JSON, 
	PRIMARY KEY (id)
);

CREATE TABLE touched (
	id INTEGER NOT NULL, 
	names JSON NOT NULL, 
	PRIMARY KEY (id)
);

CREATE TABLE types (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	project_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	UNIQUE (project_id, name), 
	FOREIGN KEY(project_id) REFERENCES projects (id)
);

CREATE TABLE version_references (
	version_id INTEGER NOT NULL, 
	on_version_id INTEGER NOT NULL, 
	PRIMARY KEY (version_id, on_version_id), 
	FOREIGN KEY(version_id) REFERENCES versions (id), 
	FOREIGN KEY(on_version_id) REFERENCES versions (id)
);

CREATE INDEX version_references_by_target ON version_references (on_version_id);

CREATE TABLE version_tags (
	version_id INTEGER NOT NULL, 
	tag TEXT NOT NULL, 
	PRIMARY KEY (version_id, tag), 
	FOREIGN KEY(version_id) REFERENCES versions (id)
);

CREATE INDEX version_tags_by_tag ON version_tags (tag);

CREATE TABLE versions (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	collection_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	log_id TEXT NOT NULL, 
	state TEXT NOT NULL CHECK (state IN ('live', 'deleted')), 
	digest TEXT NOT NULL, 
	digest_algorithm TEXT NOT NULL, 
	manifest BLOB NOT NULL, 
	size INTEGER NOT NULL, 
	file_count INTEGER NOT NULL, 
	description TEXT, 
	metadata JSON NOT NULL, 
	created_at INTEGER NOT NULL, 
	deleted_at INTEGER, 
	ttl INTEGER, 
	run_id TEXT, 
	updated_at INTEGER, 
	directories INTEGER, 
	UNIQUE (collection_id, number), 
	FOREIGN KEY(collection_id) REFERENCES collections (id), 
	UNIQUE (log_id), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);

