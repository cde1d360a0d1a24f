CREATE TABLE storage_secrets (
	name {text} NOT NULL PRIMARY KEY,
	secret {blob} NOT NULL
) {keyed};
