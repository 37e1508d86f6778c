// What a frame's landmarks are called, which parts they belong to, and which of them a line joins.
// The same lists as signbart/landmarks/layouts.py; a test holds them together.

const POSE = `nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer
  left_ear right_ear mouth_left mouth_right left_shoulder right_shoulder left_elbow right_elbow
  left_wrist right_wrist left_pinky right_pinky left_index right_index left_thumb right_thumb
  left_hip right_hip left_knee right_knee left_ankle right_ankle left_heel right_heel
  left_foot_index right_foot_index`.split(/\s+/);
const HAND = `wrist thumb_cmc thumb_mcp thumb_ip thumb_tip index_mcp index_pip index_dip index_tip
  middle_mcp middle_pip middle_dip middle_tip ring_mcp ring_pip ring_dip ring_tip
  pinky_mcp pinky_pip pinky_dip pinky_tip`.split(/\s+/);
const KINECT_NAMES = `Head Neck ShoulderLeft ShoulderRight ElbowLeft ElbowRight WristLeft WristRight
  HandLeft HandRight SpineMid SpineBase HipLeft HipRight KneeLeft KneeRight AnkleLeft AnkleRight
  FootLeft FootRight`.split(/\s+/);
const FACE = 468;

const POSE_EDGES = [
  [0, 1], [1, 2], [2, 3], [3, 7], [0, 4], [4, 5], [5, 6], [6, 8], [9, 10], [11, 12], [11, 13],
  [13, 15], [15, 17], [15, 19], [15, 21], [17, 19], [12, 14], [14, 16], [16, 18], [16, 20],
  [16, 22], [18, 20], [11, 23], [12, 24], [23, 24], [23, 25], [24, 26], [25, 27], [26, 28],
  [27, 29], [28, 30], [29, 31], [30, 32], [27, 31], [28, 32],
];
const HAND_EDGES = [
  [0, 1], [1, 2], [2, 3], [3, 4], [0, 5], [5, 6], [6, 7], [7, 8], [5, 9], [9, 10], [10, 11],
  [11, 12], [9, 13], [13, 14], [14, 15], [15, 16], [13, 17], [0, 17], [17, 18], [18, 19], [19, 20],
];
const KINECT_EDGES = [
  [0, 1], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7], [6, 8], [7, 9], [1, 10], [10, 11],
  [11, 12], [11, 13], [12, 14], [13, 15], [14, 16], [15, 17], [16, 18], [17, 19],
];
const OVAL = [
  10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
  148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
];

const LEFT = POSE.length;
const RIGHT = LEFT + HAND.length;
const MESH = RIGHT + HAND.length;
const moved = (edges, by) => edges.map(([a, b]) => [a + by, b + by]);
const places = (start, count) => Array.from({length: count}, (_, at) => start + at);

/** MediaPipe Holistic's 543 landmarks: pose, left hand, right hand, face. */
export const HOLISTIC = {
  unit: 'image',
  names: [
    ...POSE,
    ...HAND.map((joint) => `left_hand_${joint}`),
    ...HAND.map((joint) => `right_hand_${joint}`),
    ...places(0, FACE).map((at) => `face_${at}`),
  ],
  parts: {
    body: places(0, LEFT),
    left_hand: places(LEFT, HAND.length),
    right_hand: places(RIGHT, HAND.length),
    face: places(MESH, FACE),
  },
  edges: [
    ...POSE_EDGES,
    ...moved(HAND_EDGES, LEFT),
    ...moved(HAND_EDGES, RIGHT),
    ...OVAL.map((at, i) => [MESH + at, MESH + OVAL[(i + 1) % OVAL.length]]),
  ],
};

/** Microsoft Kinect's 20 joints, in metres: no picture gives them, recorded clips do. */
export const KINECT = {
  unit: 'metres',
  names: KINECT_NAMES,
  parts: {
    body: places(0, KINECT_NAMES.length),
    left_hand: [KINECT_NAMES.indexOf('HandLeft')],
    right_hand: [KINECT_NAMES.indexOf('HandRight')],
    face: [],
  },
  edges: KINECT_EDGES,
};

/** Numbers that a frame holds a landmark: x, y, z. */
export const AXES = 3;

/** An empty frame: zeros, which mean that nothing was found. */
export function emptyFrame(skeleton) {
  return new Float32Array(skeleton.names.length * AXES);
}

/** The skeleton that has all of these landmarks; undefined where none has. */
export function skeletonWith(names) {
  return [HOLISTIC, KINECT].find(({names: own}) => names.every((name) => own.includes(name)));
}

/** Whether a landmark of a frame was found. */
export function isThere(frame, at) {
  return frame[AXES * at] !== 0 || frame[AXES * at + 1] !== 0;
}

/** Part -> whether anything of it was found in the frame. */
export function partsSeen(frame, skeleton) {
  return Object.fromEntries(
    Object.entries(skeleton.parts).map(([part, members]) => [
      part,
      members.some((at) => isThere(frame, at)),
    ]),
  );
}
