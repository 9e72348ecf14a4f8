import { sqlStateOf } from './connect-error.js';

/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
export const SQLSTATE = {
  duplicateObject: '42710',
  undefinedObject: '42704',
  undefinedTable: '42P01',
  insufficientPrivilege: '42501',
  configurationLimitExceeded: '53400',
  objectNotInPrerequisiteState: '55000',
  objectInUse: '55006',
  lockNotAvailable: '55P03',
  queryCanceled: '57014',
  divisionByZero: '22012',
} as const;

type SqlState = (typeof SQLSTATE)[keyof typeof SQLSTATE];

/** Whether this error, or what it was made from, is the server's error with that code. */
export function hasSqlState(error: unknown, sqlState: SqlState): boolean {
  return sqlStateOf(error) === sqlState;
}
