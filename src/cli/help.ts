/** What acectl is. */
export const PROGRAM_DOC = 'acectl compares and repairs tables of a replicated PostgreSQL cluster.';

export const EXIT_CODES = `Exit codes: 0 equal or done; 1 differences, or rows that a repair had to
leave; 2 trouble, or nothing proved.`;

/** Of the command line as a whole. */
export const USAGE_NOTES = `Flags may stand anywhere. Without a cluster the default one is used
(ACED_CLUSTER, or default_cluster in aced.yaml). With a running aced the command
is done there, otherwise by acectl itself.

Help on a command: acectl help <command>

With --json, stdout carries exactly one JSON object: the result, or an error;
everything else goes to stderr.`;
