-- Sees that DEFAULT holds nothing of the fenced span, while others write.
SELECT validate_fence()
