import { ReferenceBackend } from '../support/reference-backend.ts';
import { conformance } from './suite.ts';

conformance('the plain references', () => new ReferenceBackend(), { propertyRuns: 50, rowUpdateCalls: 100 });
