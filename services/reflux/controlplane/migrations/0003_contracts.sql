-- Whether a revision was made without asking what flows use, or against it.
ALTER TABLE route_revisions ADD COLUMN contracts_ignored boolean NOT NULL DEFAULT false;
