-- Has DEFAULT refuse what belongs to a span to be made.
SELECT fence_default(%(first)s::uuid, %(bound)s::uuid)
