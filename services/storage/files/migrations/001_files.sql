CREATE TABLE files_uploads (
	id           {text} NOT NULL PRIMARY KEY,
	kind         {text} NOT NULL,
	org          {int} NOT NULL,
	user_id      {int} NOT NULL,
	workspace    {int} NOT NULL,
	object_name  {text} NOT NULL,
	file_name    {text} NOT NULL,
	content_type {text} NOT NULL,
	category     {text} NOT NULL,
	sha256       {text} NOT NULL,
	metadata     {text} NOT NULL,
	size         {int} NOT NULL,
	part_size    {int} NOT NULL,
	hold         {int} NOT NULL,
	object_key   {text} NOT NULL,
	key_id       {text} NOT NULL,
	backend      {text} NOT NULL,
	received     {int} NOT NULL,
	parted       {int} NOT NULL,
	tail         {text} NOT NULL,
	tail_key_id  {text} NOT NULL,
	tail_hold    {int} NOT NULL,
	hash         {blob} NOT NULL,
	file_id      {int} NOT NULL,
	expires      {int} NOT NULL
) {strict};

CREATE INDEX files_uploads_expires ON files_uploads (expires);

CREATE INDEX files_uploads_key ON files_uploads (object_key);

CREATE TABLE files_parts (
	upload {text} NOT NULL,
	number {int} NOT NULL,
	etag   {text} NOT NULL,
	size   {int} NOT NULL,
	PRIMARY KEY (upload, number)
) {strict};
