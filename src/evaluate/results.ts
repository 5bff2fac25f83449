/** Results of an evaluation: versioned JSON of how a model's scores compare with a reference's. */
import Type, { type Static } from 'typebox';

export const EVALUATE_VERSION = 1;

const strict = { additionalProperties: false } as const;
const share = Type.Number({ minimum: 0, maximum: 1 });
const sideSchema = Type.Object(
  {
    file: Type.String(),
    device: Type.String(),
    precision: Type.String({ description: 'of dense layers' }),
    rowFormats: Type.String({ description: 'how rows of tables are stored' }),
    plan: Type.String(),
  },
  strict,
);
const errorsSchema = Type.Object(
  {
    quantiles: Type.Array(Type.Tuple([share, Type.Number({ minimum: 0 })])),
    worst: Type.Number({ minimum: 0 }),
    rms: Type.Number({ minimum: 0 }),
    bias: Type.Number({ description: 'mean of the model’s less the reference’s' }),
  },
  strict,
);
const qualitySchema = Type.Object(
  {
    logLoss: Type.Number({ minimum: 0, description: 'nats' }),
    auc: Type.Optional(share),
    calibration: Type.Optional(Type.Number({ minimum: 0, description: 'mean probability over mean label' })),
  },
  strict,
);
const binSchema = Type.Object(
  { samples: Type.Integer({ minimum: 1 }), reference: share, model: share, labels: share },
  strict,
);

export const evaluateSchema = Type.Object(
  {
    version: Type.Literal(EVALUATE_VERSION),
    kind: Type.Literal('evaluate'),
    createdAt: Type.String(),
    command: Type.String(),
    hotrow: Type.String(),
    model: sideSchema,
    reference: sideSchema,
    requests: Type.Object(
      {
        files: Type.Array(Type.String()),
        samples: Type.Integer({ minimum: 1 }),
        batchSize: Type.Integer({ minimum: 1 }),
      },
      strict,
    ),
    outputs: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          /** Of a model that gives probabilities; log loss and the others go by them. */
          logit: Type.Optional(errorsSchema),
          value: errorsSchema,
          bits: Type.Integer({ minimum: 0, description: 'values that are the reference’s bit for bit' }),
          values: Type.Integer({ minimum: 1 }),
        },
        strict,
      ),
      { minItems: 1 },
    ),
    quality: Type.Optional(
      Type.Object(
        {
          labels: Type.Union([Type.Literal('given'), Type.Literal('drawn')], {
            description: '`drawn`: from the reference’s probabilities, with the seed',
          }),
          seed: Type.Optional(Type.Integer()),
          ones: Type.Integer({ minimum: 0, description: 'labels that are 1' }),
          model: qualitySchema,
          reference: qualitySchema,
          bins: Type.Array(binSchema, { minItems: 1 }),
        },
        strict,
      ),
    ),
    notes: Type.Array(Type.String()),
  },
  { ...strict, $id: 'hotrow-evaluate-1', title: 'Hotrow evaluation results, version 1' },
);

export type EvaluateResults = Static<typeof evaluateSchema>;
export type ErrorResults = Static<typeof errorsSchema>;
