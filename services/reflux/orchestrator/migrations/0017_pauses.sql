-- What was due when a schedule was paused, and had not been dealt with, comes after its resume. What would have fired
-- meanwhile does not.

ALTER TABLE schedules
    ADD COLUMN paused_at      timestamptz,
    ADD COLUMN given_up_from  timestamptz,
    ADD COLUMN given_up_until timestamptz,
    ADD CHECK ((given_up_from IS NULL) = (given_up_until IS NULL));
COMMENT ON COLUMN schedules.paused_at IS 'Of the newest pause; NULL: none yet, or one by a release that did not say it.';
COMMENT ON COLUMN schedules.given_up_from IS 'The first moment that a pause took away; NULL: none did.';
COMMENT ON COLUMN schedules.given_up_until IS 'Its end: a firing of this moment is given up, too.';
